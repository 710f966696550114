#include "gateway/ai/proxy/call.h"

#include <algorithm>
#include <charconv>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/proxy/answer_reader.h"
#include "gateway/ai/proxy/caller_key.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/proxy/model_list.h"
#include "gateway/ai/proxy/vendor_body.h"
#include "gateway/ai/proxy/vendor_request.h"
#include "gateway/clocks.h"
#include "gateway/http1/field_reader.h"
#include "gateway/log.h"
#include "gateway/worker.h"

namespace sluice::gateway::ai {
namespace {

using http::Mediator;
using Clock = KeyRing::Clock;

// How long a vendor's key rests that was told to, without being told for how long.
constexpr std::chrono::seconds kRateRest{10};
constexpr std::chrono::seconds kLongestRest{600};
constexpr std::chrono::minutes kRefusedRest{5};
constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::size_t kMaxDropped = 1024;  // bytes of x-sluice-dropped

// gen_ai.provider.name
std::string_view provider_word(policy::AiKind kind) {
  switch (kind) {
    case policy::AiKind::azure:
      return "azure.ai.openai";
    case policy::AiKind::anthropic:
      return "anthropic";
    case policy::AiKind::gemini:
      return "gcp.gemini";
    case policy::AiKind::mistral:
      return "mistral_ai";
    case policy::AiKind::openai:
    case policy::AiKind::compatible:
      break;
  }
  return "openai";
}

double cost_of(const Usage& usage, const policy::Price& price) {
  const auto micros = [](std::int64_t tokens, double each) {
    return static_cast<double>(tokens) * each;
  };
  return (micros(usage.uncached, price.input) + micros(usage.cache_read, price.cached_input) +
          micros(usage.cache_write, price.cache_write) + micros(usage.output, price.output)) /
         1e6;
}

// Names in a request are the caller's words: what could end a header field does not get into one.
std::string in_a_field(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) <= ' ' || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  return text;
}

CallerHints hints_of(const http1::RequestHead& caller) {
  const http1::FieldTable& fields = caller.fields();
  const std::string_view query = caller.query();
  return {.anthropic = !fields.first("anthropic-version").empty(),
          .gemini = !fields.first("x-goog-api-key").empty() || query.starts_with("key=") ||
                    query.find("&key=") != std::string_view::npos};
}

std::chrono::seconds rest_of(const http1::ResponseHead& response) {
  const std::string_view text = response.fields().first(http1::KnownField::retry_after);
  std::int64_t seconds = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (read.ec != std::errc{} || seconds <= 0) return kRateRest;
  return std::min(std::chrono::seconds(seconds), kLongestRest);
}

class Call final : public Mediator {
 public:
  Call(Worker& worker, const RefPtr<WorkerConfig>& config, const http1::RequestHead& caller,
       std::string_view path)
      : worker_(worker),
        config_(config),
        catalog_(*config->ai()),
        caller_(caller),
        path_(path),
        query_(caller.query()) {}

  std::optional<Answer> admit() override;
  void describe(auth::AttributeStore& attributes) const override;
  std::optional<Answer> read(std::string body) override;

  std::uint32_t upstream() const override { return provider().upstream; }
  Outgoing request() override;
  bool next() override;

  OnHead head(const http1::ResponseHead& response) override;
  bool data(std::string_view bytes, std::string& out) override;
  bool end(std::string& out) override { return answer_->end(out) || failed(); }
  const std::string& failure() const override { return failure_; }
  http1::ResponseHead* answer_head() override { return answer_ ? answer_->answer_head() : nullptr; }
  std::optional<Answer> answer() override { return std::exchange(answer_->answer(), {}); }

  Answer refusal(int status, std::string_view reason) override;
  void break_off(std::string_view reason, std::string& out) override;
  std::chrono::nanoseconds patience(bool answering) const override {
    const policy::AiTimeouts& timeouts = provider().timeouts;
    return answering ? timeouts.idle : timeouts.first_token;
  }
  Facts facts() const override;
  void ended(http::Ending ending, int status) override;

 private:
  const Target& target() const { return plan_[at_]; }
  const Provider& provider() const { return catalog_.provider(target().provider); }
  bool same_shape() const { return provider().shape == endpoint_.shape; }
  std::optional<Answer> know_caller();
  std::optional<Problem> may_ask() const;
  std::optional<Answer> take_limits();
  std::string limit_lines() const;
  std::optional<Problem> make_plan();
  std::vector<std::string_view> names_for_caller() const;
  std::optional<Problem> plan_for_vendor();
  // Nullopt: the plan's entry `at_` can be asked.
  std::optional<Problem> prepare();
  void note_failure(const http1::ResponseHead& response);
  bool failed();
  void count(http::Ending ending, int status, const Usage& usage) const;
  std::string own_lines() const;

  Worker& worker_;
  RefPtr<WorkerConfig> config_;
  const Catalog& catalog_;
  const http1::RequestHead& caller_;
  std::string path_;
  std::string query_;
  Endpoint endpoint_;
  const KnownKey* key_of_caller_ = nullptr;  // null: anybody may call
  std::optional<Cost> estimate_;             // taken from its limits

  std::optional<CallerBody> body_;
  std::string model_;  // as the caller calls it
  std::vector<Target> plan_;
  std::size_t at_ = 0;

  // The try.
  VendorBody sent_;
  std::size_t key_ = 0;
  std::size_t keys_tried_ = 0;  // of this target
  bool key_failed_ = false;
  std::string head_text_;
  http1::RequestHead head_;
  std::optional<AnswerReader> answer_;
  std::string failure_;

  // What is counted.
  Clock::time_point begun_ = Clock::now();
  Clock::time_point first_token_;
  bool asked_ = false;  // a provider, for this
};

std::optional<Mediator::Answer> Call::admit() {
  const auto endpoint = parse_endpoint(path_, hints_of(caller_));
  if (!endpoint) {
    return problem_answer(Shape::openai,
                          {ProblemKind::not_found, "no path of an LLM API: " + path_});
  }
  endpoint_ = *endpoint;
  if (!caller_.upgrade().empty()) {
    return problem_answer(endpoint_.shape,
                          {ProblemKind::not_supported, "upgrades (WebSocket) are not served here"});
  }
  const bool asks =
      endpoint_.operation == Operation::chat || endpoint_.operation == Operation::embeddings;
  if (asks && caller_.method() != http1::Method::post) {
    Answer answer = problem_answer(endpoint_.shape, Problem::invalid("", "the method is POST"));
    answer.status = 405;
    answer.lines += "allow: POST\r\n";
    return answer;
  }
  return know_caller();
}

std::optional<Mediator::Answer> Call::know_caller() {
  if (catalog_.keys() == nullptr) return std::nullopt;
  const std::string_view shown = shown_key(caller_);
  key_of_caller_ = shown.empty() ? nullptr : catalog_.keys()->find(shown);
  std::string_view why = "no API key was shown";
  if (key_of_caller_ != nullptr) {
    const std::int64_t expires = key_of_caller_->key.expires;
    if (expires == 0 || expires > unix_now()) return std::nullopt;
    why = "the API key has expired";
  } else if (!shown.empty()) {
    why = "the API key is not known here, or was revoked";
  }
  key_of_caller_ = nullptr;
  return problem_answer(endpoint_.shape, {ProblemKind::authentication, std::string(why)});
}

void Call::describe(auth::AttributeStore& attributes) const {
  if (key_of_caller_ == nullptr) return;
  const VirtualKey& key = key_of_caller_->key;
  attributes.add("key", key.name);
  if (!key.owner.empty()) attributes.add("owner", key.owner);
  if (!key.team.empty()) attributes.add("team", key.team);
}

// Whether the key is for this: by the name that the caller uses.
std::optional<Problem> Call::may_ask() const {
  if (key_of_caller_ == nullptr) return std::nullopt;
  const VirtualKey& key = key_of_caller_->key;
  if (endpoint_.operation == Operation::models) return std::nullopt;
  if (model_.empty() && (!key.models.empty() || key.is_metered())) {
    return Problem{
        ProblemKind::permission,
        "key " + key.name + " has limits that cannot be kept on " + std::string(endpoint_.path)};
  }
  if (key.may_use(model_)) return std::nullopt;
  return Problem{ProblemKind::permission, "key " + key.name + " may not use model " + model_};
}

std::optional<Mediator::Answer> Call::take_limits() {
  if (key_of_caller_ == nullptr) return std::nullopt;
  const KnownKey& known = *key_of_caller_;
  const Cost estimate{.tokens = body_->estimated_tokens()};
  const auto refused = known.state->admit(known.key, estimate, steady_now(), unix_now());
  if (!refused) {
    estimate_ = estimate;
    return std::nullopt;
  }
  const std::uint64_t seconds = refused->retry_after_ns / kSecond + 1;
  Answer answer = problem_answer(
      endpoint_.shape, {ProblemKind::rate_limit, "key " + known.key.name + " has used up its " +
                                                     std::string(refused->limit)});
  answer.lines += "retry-after: " + std::to_string(seconds) + "\r\n" + limit_lines();
  return answer;
}

// The vendors' names for them, so that SDKs find them.
std::string Call::limit_lines() const {
  if (key_of_caller_ == nullptr) return {};
  const KnownKey& known = *key_of_caller_;
  return rate_lines(endpoint_.shape, known.state->requests(known.key, steady_now()),
                    known.state->tokens(known.key, steady_now()), unix_now());
}

std::optional<Mediator::Answer> Call::read(std::string body) {
  body_.emplace(std::move(body), endpoint_);
  if (endpoint_.operation == Operation::models && catalog_.has_models())
    return model_list(endpoint_, names_for_caller());
  if (auto problem = make_plan()) return problem_answer(endpoint_.shape, *problem);
  if (auto problem = may_ask()) return problem_answer(endpoint_.shape, *problem);
  // The first that can be asked; where nobody can, what the first one lacks.
  std::optional<Problem> first;
  for (; at_ < plan_.size(); ++at_) {
    auto problem = prepare();
    if (!problem) return take_limits();
    if (!first) first = std::move(problem);
  }
  return problem_answer(endpoint_.shape, *first);
}

std::vector<std::string_view> Call::names_for_caller() const {
  std::vector<std::string_view> names = catalog_.names();
  if (key_of_caller_ != nullptr)
    std::erase_if(names, [&](std::string_view name) { return !key_of_caller_->key.may_use(name); });
  return names;
}

std::optional<Problem> Call::make_plan() {
  if (endpoint_.operation == Operation::models) return plan_for_vendor();
  const bool asks =
      endpoint_.operation == Operation::chat || endpoint_.operation == Operation::embeddings;
  if (asks && !body_->is_object()) {
    return Problem::invalid("", "the body is not a JSON object, or has a key twice");
  }
  model_ = body_->model();
  if (model_.empty()) {
    if (asks) return Problem::invalid("model", "is missing");
    return plan_for_vendor();
  }
  plan_ = catalog_.plan(model_, worker_.random());
  // What only one vendor has is asked of nobody else.
  if (!asks) {
    std::erase_if(plan_, [&](const Target& target) {
      return catalog_.provider(target.provider).shape != endpoint_.shape;
    });
  }
  if (plan_.empty()) return Problem{ProblemKind::not_found, "there is no model " + model_, "model"};
  return std::nullopt;
}

std::optional<Problem> Call::plan_for_vendor() {
  const auto provider = catalog_.first_of(endpoint_.shape);
  if (!provider) {
    return Problem{ProblemKind::not_supported,
                   "no provider here speaks the API of " + std::string(endpoint_.path)};
  }
  plan_ = {{*provider, {}}};
  return std::nullopt;
}

std::optional<Problem> Call::prepare() {
  auto body = body_->for_target(provider(), target().model, catalog_.drops_untranslatable());
  if (!body) return body.error();
  sent_ = std::move(*body);
  return std::nullopt;
}

Mediator::Outgoing Call::request() {
  asked_ = true;
  KeyRing& keys = *provider().keys;
  VendorRequest request{.provider = &provider(),
                        .endpoint = &endpoint_,
                        .model = target().model,
                        .stream = body_->stream(),
                        .query = query_,
                        .body_size = sent_.text.size()};
  if (!keys.empty()) {
    key_ = keys.choose(Clock::now());
    request.key = keys.value(key_);
  }
  write_vendor_head(request, caller_, head_text_);
  http1::RequestParser parser;
  parser.parse(head_text_, head_);
  answer_.emplace(
      Asked{.endpoint = &endpoint_,
            .provider = &provider(),
            .stream = request.stream,
            .hide_usage = sent_.hide_usage,
            .wants_usage = body_->wants_usage(),
            .as_array = endpoint_.stream && query_.find("alt=sse") == std::string::npos,
            .own_key = !keys.empty(),
            .embedding = !same_shape() && body_->embedding() ? &*body_->embedding() : nullptr,
            .model = target().model,
            .lines = own_lines()});
  return {&head_, sent_.text};
}

// What the caller may want to know: who has answered, and what was left out.
std::string Call::own_lines() const {
  std::string lines = "x-sluice-provider: " + provider().name + "\r\n" + limit_lines();
  if (sent_.dropped.empty()) return lines;
  std::string dropped;
  for (const std::string& path : sent_.dropped)
    dropped += (dropped.empty() ? "" : ", ") + in_a_field(path);
  return lines += "x-sluice-dropped: " + dropped.substr(0, kMaxDropped) + "\r\n";
}

// Another key of the same provider, or else the next target that can say what was asked.
bool Call::next() {
  KeyRing& keys = *provider().keys;
  if (std::exchange(key_failed_, false) && ++keys_tried_ < keys.size() &&
      keys.ready(Clock::now())) {
    answer_.reset();
    return true;
  }
  const std::size_t before = at_;
  for (++at_; at_ < plan_.size(); ++at_) {
    keys_tried_ = 0;
    if (prepare()) continue;
    answer_.reset();
    return true;
  }
  at_ = before;
  return false;
}

bool Call::data(std::string_view bytes, std::string& out) {
  const bool good = answer_->data(bytes, out);
  if (first_token_ == Clock::time_point{} && answer_->streams() &&
      answer_->answer_head() != nullptr)
    first_token_ = Clock::now();
  return good || failed();
}

Mediator::OnHead Call::head(const http1::ResponseHead& response) {
  answer_->head(response);
  const int status = response.status();
  const bool key_refused = !provider().keys->empty() && (status == 401 || status == 403);
  if (!key_refused && status != 408 && status != 429 && status < 500) return OnHead::take;
  note_failure(response);
  return OnHead::fail;
}

void Call::note_failure(const http1::ResponseHead& response) {
  KeyRing& keys = *provider().keys;
  if (keys.empty()) return;
  if (response.status() == 429) {
    keys.rest(key_, Clock::now() + rest_of(response));
    key_failed_ = true;
  } else if (response.status() < 500 && response.status() != 408) {
    keys.rest(key_, Clock::now() + kRefusedRest);
    key_failed_ = true;
    log_warn("ai", "a provider refuses a key",
             {{"provider", provider().name},
              {"key", std::to_string(key_ + 1)},
              {"status", std::to_string(response.status())}});
  }
}

bool Call::failed() {
  failure_ = ai::describe(*answer_->problem());
  return false;
}

Mediator::Answer Call::refusal(int status, std::string_view reason) {
  if (answer_ && answer_->problem()) return problem_answer(endpoint_.shape, *answer_->problem());
  Problem problem{problem_kind(status), std::string(reason)};
  if (status == 502) problem.kind = ProblemKind::upstream;
  Answer answer = problem_answer(endpoint_.shape, problem);
  if (status < 500 && answer.status != status) answer.status = status;
  return answer;
}

void Call::break_off(std::string_view reason, std::string& out) {
  if (!answer_) return;
  const auto& known = answer_->problem();
  out.append(answer_->last_word(known ? *known : Problem::upstream(std::string(reason))));
}

Mediator::Facts Call::facts() const {
  if (!asked_) return {};
  Facts out{.operation = to_string(endpoint_.operation),
            .provider = provider_word(provider().kind),
            .model = target().model};
  if (answer_) {
    if (const Metered metered = answer_->metered(); metered.usage) {
      out.input_tokens = metered.usage->input();
      out.output_tokens = metered.usage->output;
    }
  }
  return out;
}

// What was estimated becomes what it was. An answer that broke off is counted by what has gone by,
// a token for so many bytes, and the request as it was estimated.
void Call::ended(http::Ending ending, int status) {
  const Metered metered = answer_ ? answer_->metered() : Metered{};
  Usage usage = metered.usage.value_or(Usage{});
  const bool answered = answer_ && answer_->answered();
  if (!metered.usage && answered) {
    usage.uncached = static_cast<std::int64_t>(body_->estimated_tokens());
    usage.output = estimated_tokens(metered.text_bytes);
  } else if (ending != http::Ending::complete && metered.text_bytes > 0) {
    usage.output = std::max(usage.output, estimated_tokens(metered.text_bytes));
  }
  count(ending, status, usage);
  if (!estimate_) return;
  const Cost used{.tokens = static_cast<std::uint64_t>(usage.input() + usage.output)};
  key_of_caller_->state->settle(key_of_caller_->key, *estimate_, used, unix_now());
}

// Calls that nobody was asked for are the route's alone.
void Call::count(http::Ending ending, int status, const Usage& usage) const {
  if (!asked_) return;
  const auto seconds = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count();
  };
  CallRecord record{.operation = to_string(endpoint_.operation),
                    .kind = provider_word(provider().kind),
                    .provider = provider().name,
                    .model = target().model,
                    .usage = usage,
                    .seconds = seconds(Clock::now() - begun_),
                    .fallbacks = at_};
  if (const policy::Price* price = catalog_.prices().find(provider().name, target().model))
    record.dollars = cost_of(usage, *price);
  if (key_of_caller_ != nullptr) record.team = key_of_caller_->key.team;
  if (first_token_ != Clock::time_point{}) record.first_token = seconds(first_token_ - begun_);
  const std::string code = std::to_string(status);
  if (ending == http::Ending::gone) {
    record.error = "cancelled";
  } else if (ending == http::Ending::cut_short) {
    record.error = "cut_short";
  } else if (status >= 400) {
    record.error = code;
  }
  catalog_.meters().add(record);
}

}  // namespace

std::unique_ptr<Mediator> make_call(Worker& worker, const RefPtr<WorkerConfig>& config,
                                    const http1::RequestHead& caller, std::string_view path) {
  return std::make_unique<Call>(worker, config, caller, path);
}

}  // namespace sluice::gateway::ai
