// Phase auth: who calls, by an API key, a token, or the word of another service.
#include <algorithm>
#include <array>

#include "gateway/auth/auth_set.h"
#include "gateway/clocks.h"
#include "gateway/http/exchange.h"
#include "gateway/http1/field_reader.h"
#include "gateway/http1/octets.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

using auth::AuthEntry;
using http1::KnownField;
using http1::KnownFieldSet;

constexpr std::size_t kMaxAnswer = 64 * 1024;  // of an external service

// Besides hop-by-hop fields: what the call itself says, or has no use for.
constexpr KnownFieldSet kNotPassedOn{KnownField::host,
                                     KnownField::content_length,
                                     KnownField::transfer_encoding,
                                     KnownField::expect,
                                     KnownField::trailer,
                                     KnownField::x_forwarded_proto,
                                     KnownField::x_forwarded_host,
                                     KnownField::x_forwarded_for,
                                     KnownField::x_request_id};
constexpr KnownFieldSet kNotAnswered{KnownField::content_length, KnownField::transfer_encoding,
                                     KnownField::date, KnownField::trailer};
// Of a body that is not passed on.
constexpr KnownFieldSet kOfBody{KnownField::content_encoding, KnownField::content_location,
                                KnownField::content_range, KnownField::content_type,
                                KnownField::etag};

// What the caller shows under that name: behind "Bearer " in Authorization. Of several lines, none:
// two readers could take different ones.
std::string_view credential(const http1::FieldTable& fields, const std::string& header) {
  std::string_view value;
  std::size_t lines = 0;
  for (const http1::Field field : fields) {
    if (!http1::equals_ignoring_case(field.name, header)) continue;
    value = field.value;
    ++lines;
  }
  if (lines != 1) return {};
  if (header != "authorization") return value;
  constexpr std::string_view kScheme = "bearer ";
  if (!http1::equals_ignoring_case(value.substr(0, kScheme.size()), kScheme)) return {};
  return http1::trim_ows(value.substr(kScheme.size()));
}

const std::string& header_of(const policy::Auth& config) {
  return config.jwt ? config.jwt->header : config.api_keys->header;
}

bool wanted(const std::vector<std::string>& names, std::string_view name) {
  return names.empty() || std::ranges::any_of(names, [&](const std::string& wanted_name) {
           return http1::equals_ignoring_case(name, wanted_name);
         });
}

}  // namespace

void Exchange::authenticate(const policy::CompiledRoute& route) {
  attributes_.clear();
  auth_lines_.clear();
  challenge_.clear();
  if (!know_caller(route)) return;
  // What only the service may say, nobody else does; and secrets go no further.
  for (const std::uint32_t index : route.auth) {
    const policy::Auth& config = config_->policy().auth[index];
    if (config.external) {
      for (const std::string& name : config.external->upstream_headers)
        request_.fields().drop(name);
    } else if (config.jwt ? !config.jwt->forward : !config.api_keys->forward) {
      request_.fields().drop(header_of(config));
    }
  }
  next_auth_ = 0;
  ask_next();
}

// True: one of those that know callers knows this one, or there are none. Else it is refused.
bool Exchange::know_caller(const policy::CompiledRoute& route) {
  const AuthEntry* refused = nullptr;
  std::string_view why = "no credentials";
  for (const std::uint32_t index : route.auth) {
    const AuthEntry& entry = config_->auth().at(index);
    if (entry.config.external) continue;
    if (refused == nullptr) refused = &entry;
    const std::string_view shown = credential(request_.fields(), header_of(entry.config));
    if (shown.empty()) continue;
    std::string_view problem;
    if (entry.api_keys) {
      if (!entry.api_keys->verify(shown, attributes_)) problem = "API key is unknown";
    } else {
      const auto error =
          entry.jwt->verify(shown, unix_now(), worker_.jwt_memory(entry.id), attributes_);
      if (error == auth::JwtError::no_keys) {
        worker_.metrics().auth_result(config_->slots().auths[index], AuthResult::error);
        refuse_after(503, to_string(error), 1);
        return false;
      }
      problem = to_string(error);
    }
    if (problem.empty()) {
      worker_.metrics().auth_result(config_->slots().auths[index], AuthResult::allowed);
      return true;
    }
    worker_.metrics().auth_result(config_->slots().auths[index], AuthResult::denied);
    refused = &entry;
    why = problem;
  }
  if (refused == nullptr) return true;
  challenge(refused->config, why);
  refuse(401, why);
  return false;
}

// RFC 6750 section 3.1: nothing about the error where nothing was shown.
void Exchange::challenge(const policy::Auth& config, std::string_view why) {
  challenge_.assign("www-authenticate: ")
      .append(config.jwt ? "Bearer" : "ApiKey")
      .append(" realm=\"")
      .append(config.name)
      .append("\"");
  if (config.jwt && why != "no credentials") {
    challenge_.append(", error=\"invalid_token\", error_description=\"").append(why).append("\"");
  }
  challenge_.append("\r\n");
}

// --- external authorization

void Exchange::ask_next() {
  const policy::CompiledRoute& route = config_->snapshot().route(*route_);
  while (next_auth_ < route.auth.size()) {
    const AuthEntry& entry = config_->auth().at(route.auth[next_auth_]);
    if (entry.config.external) return ask(entry);
    ++next_auth_;
  }
  state_ = State::head;
  after_auth();
}

// What access rules and limits ask of the caller is known from here on.
void Exchange::after_auth() {
  if (may_use(config_->snapshot().route(*route_))) limits();
}

void Exchange::ask(const AuthEntry& entry) {
  const policy::ExternalAuth& external = *entry.config.external;
  if (!subrequest_) subrequest_ = std::make_unique<Subrequest>(worker_);
  std::string& head = subrequest_->head();
  head.assign("GET ").append(external.url.target).append(" HTTP/1.1\r\nhost: ");
  head.append(external.url.authority);
  head.append("\r\nx-forwarded-method: ").append(request_.method_name());
  head.append("\r\nx-forwarded-proto: ").append(client_scheme());
  head.append("\r\nx-forwarded-host: ").append(request_.authority());
  head.append("\r\nx-forwarded-uri: ").append(normal_path_);
  if (request_.has_query()) head.append("?").append(request_.query());
  head.append("\r\nx-forwarded-for: ").append(client_text()).append("\r\n");
  if (id_size_ > 0) head.append("x-request-id: ").append(request_id()).append("\r\n");
  const http1::FieldTable& fields = request_.fields();
  const KnownFieldSet left_out = http1::kHopByHop | kNotPassedOn | not_believed();
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const http1::Field field = fields[i];
    if (left_out.contains(field.id) || fields.entry(i).nominated) continue;
    if (http1::equals_ignoring_case(field.name, "x-forwarded-method") ||
        http1::equals_ignoring_case(field.name, "x-forwarded-uri") ||
        !wanted(external.request_headers, field.name)) {
      continue;
    }
    head.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  head.append("\r\n");
  subrequest_->body().clear();
  state_ = State::authorizing;
  client_->watch();
  if (!subrequest_->start(config_, entry.upstream, client_->client().peer.address, external.timeout,
                          kMaxAnswer, *this)) {
    no_answer("cannot be asked");
  }
}

// The head is the verdict: who is refused can often choose how long the body is, and a refusal that
// is too large, slow or cut short must not count as none.
void Exchange::on_subrequest_ended(Subrequest& subrequest, SubrequestEnd end) {
  if (!subrequest.has_head()) return no_answer(to_string(end));
  const ResponseHead& answer = subrequest.response();
  if (answer.status() >= 500) return no_answer("answered with a 5xx");
  const std::uint32_t index = config_->snapshot().route(*route_).auth[next_auth_];
  const bool allowed = answer.status() >= 200 && answer.status() < 300;
  worker_.metrics().auth_result(config_->slots().auths[index],
                                allowed ? AuthResult::allowed : AuthResult::denied);
  if (!allowed) return pass_refusal_on(subrequest, end == SubrequestEnd::answered);
  const auto& names = config_->policy().auth[index].external->upstream_headers;
  for (const http1::Field field : answer.fields()) {
    const auto name = std::ranges::find_if(names, [&](const std::string& known) {
      return http1::equals_ignoring_case(field.name, known);
    });
    if (name == names.end()) continue;
    auth_lines_.append(*name).append(": ").append(field.value).append("\r\n");
    attributes_.add(*name, field.value);
  }
  ++next_auth_;
  ask_next();
}

void Exchange::no_answer(std::string_view why) {
  const std::uint32_t index = config_->snapshot().route(*route_).auth[next_auth_];
  worker_.metrics().auth_result(config_->slots().auths[index], AuthResult::error);
  if (config_->policy().auth[index].external->on_error == policy::OnAuthError::deny) {
    reason_.assign("authorization service: ").append(why);
    return refuse_after(503, std::string(reason_), 1);
  }
  reason_.assign("let through (on_error): authorization ").append(why);
  ++next_auth_;
  ask_next();
}

// The service's own answer is the client's: a login page, a challenge, a reason; without its body
// where that is not whole.
void Exchange::pass_refusal_on(const Subrequest& subrequest, bool whole) {
  constexpr std::string_view kReason = "refused by the authorization service";
  const ResponseHead& answer = subrequest.response();
  if (grpc_) return refuse(answer.status(), kReason);  // a caller reads its own status alone
  const KnownFieldSet left_out =
      http1::kHopByHop | kNotAnswered | (whole ? KnownFieldSet{} : kOfBody);
  const http1::FieldTable& fields = answer.fields();
  lines_of_own_answer();
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const http1::Field field = fields[i];
    if (left_out.contains(field.id) || fields.entry(i).nominated) continue;
    answer_lines_.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  state_ = State::refusing;
  status_ = answer.status();
  reason_.assign(kReason);
  client_->answer({.status = status_, .lines = answer_lines_, .body = whole ? subrequest.answer() : std::string_view()});
  answer_done_ = true;
  rearm();
  relay();
}

}  // namespace sluice::gateway::http
