#include "gateway/ai/proxy/call.h"

#include <algorithm>

#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/proxy/mediated_call.h"
#include "gateway/ai/proxy/model_list.h"
#include "gateway/ai/proxy/path_cost.h"
#include "gateway/ai/proxy/vendor_request.h"
#include "gateway/redis/limit_leases.h"
#include "gateway/worker.h"

namespace sluice::gateway::ai {
namespace {

using http::Mediator;
using Clock = KeyRing::Clock;

constexpr std::size_t kMaxDropped = 1024;  // bytes of x-sluice-dropped

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

bool reads(http1::Method method) {
  return method == http1::Method::get || method == http1::Method::head;
}

// Some vendors' paths have the model's name in them: it must not lead out of its place.
bool climbs(std::string_view model) {
  while (!model.empty()) {
    const std::size_t end = std::min(model.find('/'), model.size());
    const std::string_view segment = model.substr(0, end);
    if (segment == "." || segment == "..") return true;
    model.remove_prefix(std::min(end + 1, model.size()));
  }
  return false;
}

}  // namespace

std::optional<Mediator::Answer> Call::admit() {
  const auto endpoint = parse_endpoint(path_, hints_of(caller_));
  if (!endpoint) {
    return problem_answer(Shape::openai,
                          {ProblemKind::not_found, "no path of an LLM API: " + path_});
  }
  endpoint_ = *endpoint;
  // Whoever may call may read what models there are; what else is done to one is a call of it.
  if (endpoint_.operation == Operation::models && !reads(caller_.method()))
    endpoint_.operation = Operation::other;
  if (!caller_.upgrade().empty()) {
    return problem_answer(endpoint_.shape,
                          {ProblemKind::not_supported, "upgrades (WebSocket) are not served here"});
  }
  const bool asks = is_chat(endpoint_.operation) || endpoint_.operation == Operation::embeddings;
  if (asks && caller_.method() != http1::Method::post) {
    Answer answer = problem_answer(endpoint_.shape, Problem::invalid("", "the method is POST"));
    answer.status = 405;
    answer.lines += "allow: POST\r\n";
    return answer;
  }
  if (auto problem = admission_.know(caller_)) return problem_answer(endpoint_.shape, *problem);
  return std::nullopt;
}

void Call::describe(auth::AttributeStore& attributes) const {
  const VirtualKey* key = admission_.key();
  if (key == nullptr) return;
  attributes.add("key", key->name);
  if (!key->owner.empty()) attributes.add("owner", key->owner);
  if (!key->team.empty()) attributes.add("team", key->team);
}

// Where a budget is for the call, nobody is asked whose price nobody knows.
std::optional<Problem> Call::keep_priced() {
  if (!admission_.has_budgets() || !catalog_.refuses_unpriced() ||
      path_cost(endpoint_) == PathCost::free)
    return std::nullopt;
  std::erase_if(plan_, [&](const Target& target) { return price_of(target) == nullptr; });
  if (!plan_.empty()) return std::nullopt;
  return Problem{ProblemKind::permission,
                 "a budget is for this call, and there is no price of model " + model_};
}

// By the dearest of those who may be asked, since that is who may answer.
Cost Call::estimate() const {
  const TokenEstimate tokens = body_->estimate();
  Cost cost{.tokens = tokens.request + tokens.answer, .answer = tokens.answer};
  Usage usage;
  usage.uncached = static_cast<std::int64_t>(tokens.request);
  usage.output = static_cast<std::int64_t>(tokens.answer);
  for (std::size_t i = at_; i < plan_.size(); ++i)
    if (const policy::Price* price = price_of(plan_[i]))
      cost.micros = std::max(cost.micros, cost_of(usage, *price));
  return cost;
}

std::optional<Mediator::Answer> Call::read(std::string body) {
  body_.emplace(std::move(body), endpoint_);
  api_fields_ = api_fields(caller_);
  cache_control_ = caller_.fields().first("cache-control");
  if (endpoint_.operation == Operation::models && catalog_.has_models())
    return model_list(endpoint_, names_for_caller());
  if (auto problem = make_plan()) return problem_answer(endpoint_.shape, *problem);
  if (auto problem = admission_.may_ask(endpoint_, model_))
    return problem_answer(endpoint_.shape, *problem);
  if (auto problem = keep_priced()) return problem_answer(endpoint_.shape, *problem);
  if (auto problem = filter_request()) return problem_answer(endpoint_.shape, *problem);
  // The first that can be asked; where nobody can, what the first one lacks.
  std::optional<Problem> first;
  for (; at_ < plan_.size(); ++at_) {
    auto problem = prepare();
    if (problem) {
      if (!first) first = std::move(problem);
      continue;
    }
    if (!recall()) estimate_ = estimate();
    return std::nullopt;
  }
  return problem_answer(endpoint_.shape, *first);
}

// What is no JSON passes as it is.
std::optional<Problem> Call::filter_request() {
  const CallFacts facts = admission_.facts();
  filters_ = catalog_.filter_for(facts, policy::AiDirection::answer);
  const auto filter = catalog_.filter_for(facts, policy::AiDirection::request);
  if (!filter || !body_->is_object()) return std::nullopt;
  std::string text = body_->text();
  Findings findings;
  const bool changed = filter_json(*filter, text, findings);
  record_findings(catalog_, *filter, findings, "request");
  if (const FilterRule* rule = filter->refuses(findings))
    return Problem::invalid("", "the request has what filter " + rule->name + " refuses");
  if (changed) body_.emplace(std::move(text), endpoint_);
  return std::nullopt;
}

AnswerKeeper::Visit Call::visit() const {
  return {.catalog = catalog_,
          .endpoint = endpoint_,
          .provider = provider(),
          .model = target().model,
          .key = admission_.key(),
          .facts = admission_.facts(),
          .api_fields = api_fields_,
          .query = query_,
          .body = body_->text(),
          .cache_control = cache_control_};
}

std::optional<Mediator::Answer> Call::take(const SharedVerdict* said) {
  Peers peers{.gateways = worker_.leases().gateways()};
  if (const auto& redis = config_->policy().redis) peers.on_loss = redis->on_loss;
  if (auto refused = admission_.take(endpoint_.shape, estimate_, said, peers)) {
    recalled_.reset();
    return refused;
  }
  admitted_ = recalled_ == nullptr;
  if (admitted_) return std::nullopt;
  record_hit(catalog_, endpoint_, provider(), target().model, admission_.facts());
  if (const policy::AiAudit* audit = catalog_.audit_for(admission_.facts())) {
    heard_.begin(audit->max_body);
    heard_.add(recalled_->body);
  }
  return answer_of_cache();
}

// It is a request of the caller's, but takes no token and no money. Who may have an answer with a
// key of the caller's own, the vendor decides each time.
bool Call::recall() {
  if (!passed_key().empty()) return false;
  recalled_ = keeper_.look(visit());
  return recalled_ != nullptr;
}

Mediator::Answer Call::answer_of_cache() const {
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - recalled_->made);
  return Answer{.status = 200,
                .lines = "content-type: " + recalled_->content_type + "\r\nage: " +
                         std::to_string(age.count()) + "\r\nx-sluice-cache: hit\r\n" + own_lines(),
                .body = recalled_->body};
}

// All that can be listed; of one that is asked for, whether it is served, also by a pattern.
std::vector<std::string_view> Call::names_for_caller() const {
  std::vector<std::string_view> names;
  if (endpoint_.model.empty())
    names = catalog_.names();
  else if (!catalog_.plan(endpoint_.model, called_, 0).empty())
    names = {endpoint_.model};
  if (const VirtualKey* key = admission_.key())
    std::erase_if(names, [&](std::string_view name) { return !key->may_use(name); });
  return names;
}

std::optional<Problem> Call::make_plan() {
  if (endpoint_.operation == Operation::models) return plan_for_vendor();
  const bool asks = is_chat(endpoint_.operation) || endpoint_.operation == Operation::embeddings;
  if (asks && !body_->is_object()) {
    return Problem::invalid("", "the body is not a JSON object, or has a key twice");
  }
  model_ = body_->model();
  if (model_.empty()) {
    if (asks) return Problem::invalid("model", "is missing");
    return plan_for_vendor();
  }
  if (climbs(model_)) return Problem::invalid("model", "has `.` or `..` between its slashes");
  plan_ = catalog_.plan(model_, called_, worker_.random());
  // One that only its vendor knows, such as to be deleted: the path names it as it is.
  if (plan_.empty() && endpoint_.verb.empty() && !endpoint_.model.empty() && !catalog_.has_models())
    return plan_for_vendor();
  // What only one vendor has is asked of nobody else.
  if (!asks) {
    const auto foreign = std::erase_if(plan_, [&](const Target& target) {
      return !is_native(endpoint_, catalog_.provider(target.provider));
    });
    if (plan_.empty() && foreign > 0) {
      return Problem{ProblemKind::not_found,
                     "no provider of model " + model_ + " has " + std::string(endpoint_.path) +
                         ", which only the API of that path's vendor knows",
                     "model"};
    }
  }
  if (plan_.empty()) return Problem{ProblemKind::not_found, "there is no model " + model_, "model"};
  ask_resting_last();
  return std::nullopt;
}

// A provider whose keys all rest has said that it would refuse, or until when.
void Call::ask_resting_last() {
  if (plan_.size() < 2) return;
  const auto ready = [&, now = Clock::now()](const Target& target) {
    return catalog_.provider(target.provider).keys->ready(now);
  };
  if (!std::ranges::all_of(plan_, ready)) std::ranges::stable_partition(plan_, ready);
}

std::optional<Problem> Call::plan_for_vendor() {
  const auto provider = catalog_.first_of(endpoint_.shape, called_);
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

// To the very host that the caller meant it for, in the shape that it speaks there.
std::string_view Call::passed_key() const {
  const Provider& to = provider();
  if (!to.passes_caller_key || called_.empty() || called_ != to.host || !same_shape()) return {};
  return admission_.foreign_key(caller_);
}

std::optional<std::string_view> Call::request(http1::RequestHead& head) {
  KeyRing& keys = *provider().keys;
  VendorRequest request{.provider = &provider(),
                        .endpoint = &endpoint_,
                        .model = target().model,
                        .stream = body_->stream(),
                        .query = query_,
                        .body_size = sent_.text().size()};
  request.key = passed_key();
  request.callers_key = key_is_callers_ = !request.key.empty();
  if (!key_is_callers_ && !keys.empty()) {
    key_ = keys.size() > 1 ? keys.choose(Clock::now()) : 0;
    request.key = keys.value(key_);
  }
  if (!write_vendor_head(request, caller_, head_text_, head)) return std::nullopt;
  asked_ = true;
  const policy::AiAudit* audit = catalog_.audit_for(admission_.facts());
  heard_.begin(std::max<std::size_t>(keeper_.wants(), audit != nullptr ? audit->max_body : 0));
  const bool as_array = endpoint_.stream && query_.find("alt=sse") == std::string::npos;
  filter_.reset();
  if (filters_) filter_ = std::make_unique<AnswerFilter>(endpoint_.shape, *filters_, as_array);
  answer_.emplace(
      Asked{.endpoint = &endpoint_,
            .provider = &provider(),
            .stream = request.stream,
            .hide_usage = sent_.hide_usage,
            .wants_usage = body_->wants_usage(),
            .as_array = as_array,
            .key = key_is_callers_ ? std::string_view() : request.key,
            .collect = filters_.has_value(),
            .budgeted = admission_.has_budgets(),
            .embedding = !same_shape() && body_->embedding() ? &*body_->embedding() : nullptr,
            .model = target().model,
            .lines = own_lines()});
  return sent_.text();
}

// What the caller may want to know: who has answered, and what was left out.
std::string Call::own_lines() const {
  constexpr std::size_t kUsual = 128;  // bytes
  std::string lines;
  lines.reserve(kUsual);
  lines = "x-sluice-provider: ";
  lines.append(provider().name).append("\r\n");
  admission_.append_limit_lines(endpoint_.shape, lines);
  if (keeper_.missed()) lines += "x-sluice-cache: miss\r\n";
  if (sent_.dropped.empty()) return lines;
  std::string dropped;
  for (const std::string& path : sent_.dropped)
    dropped += (dropped.empty() ? "" : ", ") + in_a_field(path);
  return lines += "x-sluice-dropped: " + dropped.substr(0, kMaxDropped) + "\r\n";
}

// Another key of the same provider, or else the next target that can say what was asked.
bool Call::next() {
  if (filter_problem_) return false;
  KeyRing& keys = *provider().keys;
  if (std::exchange(key_failed_, false) && !key_is_callers_ && ++keys_tried_ < keys.size() &&
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

std::unique_ptr<Mediator> make_call(Worker& worker, const RefPtr<WorkerConfig>& config,
                                    const Asker& asker) {
  return std::make_unique<Call>(worker, config, asker);
}

}  // namespace sluice::gateway::ai
