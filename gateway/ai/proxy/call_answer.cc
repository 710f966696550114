#include <algorithm>

#include "gateway/ai/proxy/mediated_call.h"
#include "gateway/ai/proxy/path_cost.h"
#include "gateway/ai/proxy/rate_limit_rest.h"
#include "gateway/clocks.h"
#include "gateway/log.h"
#include "gateway/redis/limit_leases.h"
#include "gateway/worker.h"

namespace sluice::gateway::ai {
namespace {

using http::Mediator;
using Clock = KeyRing::Clock;

// How long a vendor's key rests that was told to, without being told for how long.
constexpr std::chrono::seconds kRateRest{10};
constexpr std::chrono::seconds kLongestRest{600};
constexpr std::chrono::minutes kRefusedRest{5};

Clock::duration bounded(std::chrono::milliseconds said) {
  return std::min<std::chrono::milliseconds>(said, kLongestRest);
}

}  // namespace

bool Call::data(std::string_view bytes, std::string& out) {
  const std::size_t before = out.size();
  unfiltered_.clear();
  const bool filtered = filter_ && answer_->streams();
  bool good = answer_->data(bytes, filtered ? unfiltered_ : out);
  if (filtered && !filter_->feed(unfiltered_, out)) return refused_by_filter();
  heard_.add(std::string_view(out).substr(before));
  if (good && !filtered && answer_->over() && has_last_word()) {
    keep_answer();
    settle(http::Ending::complete);
  }
  if (first_token_ == Clock::time_point{} && answer_->streams() && answer_->started())
    first_token_ = Clock::now();
  return good || failed();
}

bool Call::end(std::string& out) {
  const std::size_t before = out.size();
  unfiltered_.clear();
  const bool filtered = filter_ && answer_->streams();
  if (!answer_->end(filtered ? unfiltered_ : out)) {
    if (answer_->key_refused()) rest_refused_key(answer_->status());
    return failed();
  }
  if (filtered && (!filter_->feed(unfiltered_, out) || !filter_->end(out)))
    return refused_by_filter();
  rest_as_error_says();
  heard_.add(std::string_view(out).substr(before));
  keep_answer();
  settle(http::Ending::complete);
  return true;
}

// Streams are many at a time, and prompts are long.
void Call::hold_less() {
  std::string().swap(head_text_);
  sent_ = {};
  if (keeper_.wants() > 0) return;
  answer_->forget_head();
  if (catalog_.audit_for(admission_.facts()) == nullptr) body_->forget();
}

std::optional<Mediator::Answer> Call::answer() {
  std::optional<Answer> answer = std::exchange(answer_->answer(), {});
  if (!answer) return answer;
  if (filter_ && !filter_->whole(answer->body)) {
    refused_by_filter();
    answer = problem_answer(endpoint_.shape, *filter_problem_);
  }
  heard_.add(answer->body);
  keep_answer();
  return answer;
}

// Before the caller has all of it: the same call again, a moment later, shall find it.
void Call::keep_answer() {
  if (filter_problem_ || !answer_->answered() || answer_->status() != 200) return;
  if (keeper_.wants() == 0 || key_is_callers_) return;
  http1::ResponseHead head;
  const bool has_head = answer_->started() && answer_->read_head(head);
  keeper_.keep(visit(), has_head ? &head : nullptr, heard_);
}

bool Call::refused_by_filter() {
  filter_problem_ = Problem{ProblemKind::permission,
                            "the answer has what filter " + filter_->refused()->name + " refuses"};
  failure_ = filter_problem_->message;
  return false;
}

Mediator::OnHead Call::head(const http1::ResponseHead& response) {
  answer_->head(response);
  const int status = response.status();
  const bool key_refused =
      !key_is_callers_ && !provider().keys->empty() && (status == 401 || status == 403);
  if (!key_refused && status != 408 && status != 429 && status < 500) return OnHead::take;
  note_failure(response);
  return OnHead::fail;
}

void Call::note_failure(const http1::ResponseHead& response) {
  KeyRing& keys = *provider().keys;
  if (keys.empty() || key_is_callers_) return;
  if (response.status() == 429) {
    rest_known_ = rest_said(response, unix_now());
    keys.rest(key_, Clock::now() + bounded(rest_known_.value_or(kRateRest)));
    key_failed_ = true;
  } else if (response.status() < 500 && response.status() != 408) {
    rest_refused_key(response.status());
  }
}

// Where the head has not said so. It is read only of an answer after which nobody else is asked.
void Call::rest_as_error_says() {
  const auto& said = answer_->error_rest();
  KeyRing& keys = *provider().keys;
  if (answer_->status() != 429 || rest_known_ || !said || keys.empty() || key_is_callers_) return;
  keys.rest(key_, Clock::now() + bounded(*said));
}

void Call::rest_refused_key(int status) {
  provider().keys->rest(key_, Clock::now() + kRefusedRest);
  key_failed_ = true;
  log_warn("ai", "a provider refuses a key",
           {{"provider", provider().name},
            {"key", std::to_string(key_ + 1)},
            {"status", std::to_string(status)}});
}

bool Call::failed() {
  failure_ = ai::describe(*answer_->problem());
  return false;
}

Mediator::Answer Call::refusal(int status, std::string_view reason) {
  if (filter_problem_) return problem_answer(endpoint_.shape, *filter_problem_);
  if (answer_ && answer_->problem()) return problem_answer(endpoint_.shape, *answer_->problem());
  Problem problem{problem_kind(status), std::string(reason)};
  if (status == 502) problem.kind = ProblemKind::upstream;
  Answer answer = problem_answer(endpoint_.shape, problem);
  if (status < 500 && answer.status != status) answer.status = status;
  return answer;
}

void Call::break_off(std::string_view reason, std::string& out) {
  if (!answer_) return;
  const auto& known = filter_problem_ ? filter_problem_ : answer_->problem();
  out.append(answer_->last_word(known ? *known : Problem::upstream(std::string(reason))));
}

// What was estimated becomes what it was. An answer that broke off is counted by what has gone by,
// a token for so many bytes, and the request as it was estimated; what has no text, such as
// pictures, as it was estimated, too.
Usage Call::used(http::Ending ending) const {
  static const Metered kNothing;
  const Metered& metered = answer_ ? answer_->metered() : kNothing;
  Usage usage = metered.usage.value_or(Usage{});
  const PathCost cost = path_cost(endpoint_);
  const bool answered = answer_ && answer_->answered() && cost != PathCost::free;
  if (!metered.usage && answered) {
    const bool own = endpoint_.operation == Operation::other && cost == PathCost::said;
    usage.uncached = static_cast<std::int64_t>(body_->estimated_request());
    usage.output = own && metered.text_bytes == 0 ? static_cast<std::int64_t>(estimate_.answer)
                                                  : estimated_tokens(metered.text_bytes);
  } else if (ending != http::Ending::complete && metered.text_bytes > 0) {
    usage.output = std::max(usage.output, estimated_tokens(metered.text_bytes));
  }
  return usage;
}

Call::Facts Call::facts() const {
  if (!asked_) return {};
  Facts out{.operation = to_string(endpoint_.operation),
            .provider = provider_word(provider().kind),
            .model = target().model};
  if (answer_) {
    if (const std::optional<Usage>& usage = answer_->metered().usage) {
      out.input_tokens = usage->input();
      out.output_tokens = usage->output;
    }
  }
  return out;
}

// Some SDKs go as soon as they have a stream's last event, before its body has ended: they have the
// whole answer.
http::Ending Call::ending_of(http::Ending ending) const {
  const bool over = answer_ && answer_->over() && !filter_;
  return over && ending == http::Ending::gone ? http::Ending::complete : ending;
}

// Gemini's streams have none: what looks like it may be one candidate's, with others behind it.
bool Call::has_last_word() const {
  return endpoint_.shape != Shape::gemini || provider().shape != Shape::gemini;
}

// Before the caller has all of it, where it comes to that: who then asks again at once shall not be
// refused for what was only estimated.
void Call::settle(http::Ending ending) {
  if (used_) return;
  const Usage usage = used(ending);
  // Where nobody could be asked there is no target.
  const policy::Price* price = asked_ ? price_of(target()) : nullptr;
  used_ = {
      .usage = usage,
      .cost = {.micros = price != nullptr ? cost_of(usage, *price) : 0, .known = price != nullptr}};
  const Cost taken{.tokens = static_cast<std::uint64_t>(usage.input() + usage.output),
                   .micros = used_->cost.micros};
  worker_.leases().charge(admission_.charges(taken));
  admission_.settle(taken);
}

std::optional<std::uint64_t> Call::used_tokens() const {
  if (!used_) return std::nullopt;
  return static_cast<std::uint64_t>(used_->usage.input() + used_->usage.output);
}

void Call::ended(http::Ending said, int status) {
  const http::Ending ending = ending_of(said);
  settle(ending == said || has_last_word() ? ending : said);
  if (filter_) record_findings(catalog_, *filters_, filter_->findings(), "answer");
  count(ending, status, used_->usage, used_->cost);
  audit(ending, status, used_->usage, used_->cost);
}

// Calls that nobody was to be asked for are the route's alone; whom they could not reach, has
// failed.
void Call::count(http::Ending ending, int status, const Usage& usage, const Money& cost) const {
  const bool unreached = admitted_ && ending == http::Ending::complete && status >= 502;
  if (!asked_ && !unreached) return;
  const auto seconds = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count();
  };
  const CallFacts facts = admission_.facts();
  const std::string error = error_word(ending, status);
  CallRecord record{.operation = to_string(endpoint_.operation),
                    .kind = provider_word(provider().kind),
                    .provider = provider().name,
                    .model = target().model,
                    .team = facts.team,
                    .error = error,
                    .usage = usage,
                    .dollars = static_cast<double>(cost.micros) / 1e6,
                    .seconds = seconds(Clock::now() - begun_),
                    .fallbacks = at_,
                    .cache_missed = keeper_.missed()};
  if (first_token_ != Clock::time_point{}) record.first_token = seconds(first_token_ - begun_);
  record_call(catalog_, record, facts, cost);
}

void Call::audit(http::Ending ending, int status, const Usage& usage, const Money& cost) {
  const CallFacts facts = admission_.facts();
  const policy::AiAudit* audit = body_ ? catalog_.audit_for(facts) : nullptr;
  if (audit == nullptr) return;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begun_);
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  AuditEntry entry{.time_ms = (now - took).count(),
                   .duration_ms = took.count(),
                   .key = std::string(facts.key),
                   .team = std::string(facts.team),
                   .owner = std::string(facts.owner),
                   .route = std::string(facts.route),
                   .client = client_.to_string(),
                   .operation = std::string(to_string(endpoint_.operation)),
                   .path = path_,
                   .provider = {},
                   .model = {},
                   .asked_model = model_,
                   .status = status,
                   .error = error_word(ending, status),
                   .usage = usage,
                   .micros = cost.micros,
                   .cached = recalled_ != nullptr,
                   .request = body_->text().substr(0, audit->max_body),
                   .answer = heard_.text().substr(0, audit->max_body),
                   .request_size = body_->text().size(),
                   .answer_size = heard_.size(),
                   .shape = endpoint_.shape};
  if (asked_ || recalled_) {
    entry.provider = provider().name;
    entry.model = target().model;
  }
  catalog_.audit().add(std::move(entry));
}

}  // namespace sluice::gateway::ai
