// What a route does besides forwarding: changes to heads, CORS, size limits, answers of its own.
// Nothing here runs for routes that only forward, and nothing allocates once the exchange's strings
// have grown.
#include "policy/route_actions.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "gateway/http/exchange.h"
#include "gateway/tls/stream.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

using http1::KnownField;

constexpr std::array<std::string_view, 6> kCorsFields{
    "access-control-allow-origin",   "access-control-allow-credentials",
    "access-control-expose-headers", "access-control-allow-methods",
    "access-control-allow-headers",  "access-control-max-age"};

// Said by the answer itself.
constexpr std::array<std::string_view, 3> kOwnFields{"content-type", "date", "location"};

}  // namespace

// --- variables

std::string_view Exchange::client_scheme() const {
  return said_scheme_.empty() ? own_scheme() : said_scheme_;
}

std::string_view Exchange::own_scheme() const {
  return client_->client().transport->plain() ? "http" : "https";
}

// Of a client that has shown a certificate.
std::string_view Exchange::certificate_variable(policy::Variable name) const {
  const tls::Identity* shown = certificate();
  if (shown == nullptr) return "";
  switch (name) {
    case policy::Variable::client_cert_fingerprint:
      return shown->fingerprint;
    case policy::Variable::client_cert_name:
      return shown->names.empty() ? std::string_view() : shown->names.front();
    case policy::Variable::client_cert_serial:
      return shown->serial;
    default:
      return shown->subject;
  }
}

std::string_view Exchange::variable(policy::Variable name, std::string_view argument) const {
  using enum policy::Variable;
  switch (name) {
    case claim:
      return attributes_.attribute(argument).value_or("");
    case client_cert_fingerprint:
    case client_cert_name:
    case client_cert_serial:
    case client_cert_subject:
      return certificate_variable(name);
    case client_ip:
      return client_text();
    case client_port: {
      if (address_ != client_->client().peer.address) return "";  // a proxy's
      const auto end = std::to_chars(port_text_.data(), port_text_.data() + port_text_.size(),
                                     client_->client().peer.port);
      return {port_text_.data(), end.ptr};
    }
    case endpoint:
      return attempt_ ? std::string_view(attempt_.endpoint().name()) : "";
    case host:
      return host_;
    case listener:
      return this->listener().name();
    case method:
      return request_.method_name();
    case path:
      return normal_path_;
    case request_id:
      return id_size_ > 0 ? this->request_id() : request_.fields().first(KnownField::x_request_id);
    case route:
      return config_->policy().routes[*route_].name;
    case scheme:
      return client_scheme();
    case trace_id:
      return this->trace_id();
    case upstream:
      return cluster_ != nullptr ? std::string_view(cluster_->name()) : "";
  }
  return "";
}

void Exchange::append_lines(const policy::CompiledChanges& changes, std::string& out) const {
  for (const auto& line : changes.lines) {
    out.append(line.name).append(": ");
    line.value.append_to(out, *this);
    out.append("\r\n");
  }
}

// --- before anything is decided

// Fetch section 3.2.2: a preflight is an OPTIONS with both fields.
bool Exchange::is_preflight() const {
  return request_.method() == Method::options && request_.fields().has(KnownField::origin) &&
         !request_.fields().first("access-control-request-method").empty();
}

bool Exchange::begin_actions() {
  const policy::RouteActions& actions = config_->policy().routes[*route_].actions;
  if (actions.cors && is_preflight()) {
    answer_preflight();
    return false;
  }
  if (actions.max_response_body) answer_left_ = *actions.max_response_body;
  if (!actions.max_body) return true;
  if (config_->policy().routes[*route_].ai) {  // refused in the caller's own shape: collect()
    body_left_ = *actions.max_body;
    return true;
  }
  if (request_.content_length() > *actions.max_body) {
    request_too_large();
    return false;
  }
  if (request_.body() == BodyKind::chunked) body_left_ = *actions.max_body;
  return true;
}

void Exchange::answer_preflight() {
  const http1::FieldTable& fields = request_.fields();
  answer_lines_.clear();
  actions_->cors->preflight(fields.first(KnownField::origin),
                            fields.first("access-control-request-method"),
                            fields.first("access-control-request-headers"), answer_lines_);
  return_request_id(answer_lines_);
  state_ = State::refusing;
  status_ = 204;
  client_->answer({.status = 204, .lines = answer_lines_});
  answer_done_ = true;
  rearm();
  relay();
}

void Exchange::request_too_large() {
  if (head_forwarded_) return cut_short("request larger than max_body");
  drop_upstream();
  end_attempt(Outcome::neutral);
  client_->close_after(true);
  refuse(413, "request larger than max_body");
}

// --- the upstream's request

void Exchange::edit_request(http1::RequestForwarding& options) {
  const policy::Route& route = config_->policy().routes[*route_];
  if (const auto& rewrite = route.actions.rewrite) {
    if (rewrite->path.kind != policy::PathChange::Kind::none) {
      new_path_.clear();
      policy::change_path(rewrite->path, route.path, normal_path_, new_path_);
      options.path = new_path_;
    }
    if (!rewrite->host.empty()) options.host = rewrite->host;
  }
  if (body_left_ != kNoLimit) body_left_ = *route.actions.max_body;  // a second try begins again
  options.lines = auth_lines_;
  if (actions_->request.empty()) return;
  for (const std::string& name : actions_->request.drop)
    request_.fields().drop(name);
  request_lines_.assign(auth_lines_);
  append_lines(actions_->request, request_lines_);
  options.lines = request_lines_;
}

// --- the client's answer

// True: refused instead. No fault of the endpoint's.
bool Exchange::answer_too_large(const ResponseHead& response) {
  if (answer_left_ == kNoLimit || response.body() != BodyKind::length) return false;
  if (response.content_length() <= std::exchange(answer_left_, kNoLimit)) return false;
  drop_upstream();
  end_attempt(Outcome::neutral);
  refuse(502, "answer larger than max_response_body");
  return true;
}

AnswerEdits Exchange::edit_answer(ResponseHead& response) {
  http1::FieldTable& fields = response.fields();
  answer_lines_.clear();
  if (actions_->cors) {
    for (const std::string_view name : kCorsFields)
      fields.drop(name);
    actions_->cors->answer(request_.fields().first(KnownField::origin), answer_lines_);
  }
  for (const std::string& name : actions_->response.drop)
    fields.drop(name);
  append_lines(actions_->response, answer_lines_);
  const bool recoded = begin_compression(response);
  return {.lines = answer_lines_, .recoded = recoded};
}

std::string_view Exchange::lines_of_own_answer() {
  answer_lines_.assign(challenge_);
  return_request_id(answer_lines_);
  if (actions_ == nullptr) return answer_lines_;
  if (actions_->cors)
    actions_->cors->answer(request_.fields().first(KnownField::origin), answer_lines_);
  for (const auto& line : actions_->response.lines) {
    if (std::ranges::find(kOwnFields, line.name) != kOwnFields.end()) continue;
    answer_lines_.append(line.name).append(": ");
    line.value.append_to(answer_lines_, *this);
    answer_lines_.append("\r\n");
  }
  return answer_lines_;
}

// --- answers of the route's own

bool Exchange::answer_directly() {
  const policy::RouteActions& actions = config_->policy().routes[*route_].actions;
  if (actions.redirect) {
    redirect(*actions.redirect);
    return true;
  }
  if (!actions.direct_response) return false;
  const policy::DirectResponse& response = *actions.direct_response;
  new_path_.assign(response.body);
  if (!new_path_.empty() && !new_path_.ends_with('\n')) new_path_.push_back('\n');
  const std::array<ExtraField, 1> type{{{"Content-Type", response.content_type}}};
  respond(static_cast<int>(response.status), std::span(type).first(response.body.empty() ? 0 : 1),
          new_path_);
  return true;
}

// The Gateway API's HTTPRequestRedirectFilter: what is not given stays as it came; a scheme that is
// given brings its own port.
void Exchange::redirect(const policy::Redirect& redirect) {
  if (redirect.host.empty() && host_.empty()) return refuse(400, "a redirect needs a host");
  const std::string_view scheme =
      redirect.scheme.empty() ? client_scheme() : std::string_view(redirect.scheme);
  std::uint16_t port = redirect.port;
  if (port == 0 && redirect.scheme.empty()) port = request_.port().value_or(0);
  if (port == (scheme == "https" ? 443 : 80)) port = 0;
  new_path_.assign(scheme).append("://");
  new_path_.append(redirect.host.empty() ? host_ : std::string_view(redirect.host));
  if (port != 0) {
    const auto end = std::to_chars(port_text_.data(), port_text_.data() + port_text_.size(), port);
    new_path_.append(":").append(port_text_.data(), end.ptr);
  }
  policy::change_path(redirect.path, config_->policy().routes[*route_].path,
                      normal_path_.starts_with('/') ? normal_path_ : "/", new_path_);
  if (request_.has_query()) new_path_.append("?").append(request_.query());
  const std::array<ExtraField, 1> location{{{"Location", new_path_}}};
  respond(static_cast<int>(redirect.status), location, {});
}

void Exchange::respond(int status, std::span<const ExtraField> fields, std::string_view body) {
  if (says_switched(status)) return refuse(502, "the route's own answer is no WebSocket");
  state_ = State::refusing;
  status_ = status;
  client_->answer(
      {.status = status, .fields = fields, .lines = lines_of_own_answer(), .body = body});
  answer_done_ = true;
  rearm();
  relay();
}

}  // namespace sluice::gateway::http
