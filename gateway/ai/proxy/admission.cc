#include "gateway/ai/proxy/admission.h"

#include "gateway/ai/proxy/answer_reader.h"
#include "gateway/ai/proxy/calendar.h"
#include "gateway/ai/proxy/caller_key.h"
#include "gateway/clocks.h"
#include "policy/schema/ai_controls.h"

namespace sluice::gateway::ai {
namespace {

using http::Mediator;

constexpr std::uint64_t kSecond = 1'000'000'000;

std::string_view word(policy::AiPeriod period) {
  return policy::kAiPeriodWords[static_cast<std::size_t>(period)];
}

BudgetUse own_budget(const VirtualKey& key) {
  return {.account = "key/" + key.id + "/" + std::string(word(key.period)),
          .what = "key " + key.name,
          .limit = key.budget,
          .period = key.period};
}

std::string_view one_of(policy::AiEach each, const CallFacts& facts) {
  switch (each) {
    case policy::AiEach::key:
      return facts.key;
    case policy::AiEach::team:
      return facts.team;
    case policy::AiEach::owner:
      return facts.owner;
    case policy::AiEach::model:
      return facts.model;
    case policy::AiEach::route:
      return facts.route;
    case policy::AiEach::all:
      break;
  }
  return {};
}

std::string in_vain(const BudgetRefusal& refusal, std::int64_t micros) {
  return refusal.what + " has " + dollars_text(refusal.left) + " left of its budget for the " +
         std::string(word(refusal.period)) + ", and this call may cost " + dollars_text(micros);
}

}  // namespace

std::optional<Problem> Admission::know(const http1::RequestHead& caller) {
  if (catalog_.keys() == nullptr) return std::nullopt;
  const std::string_view shown = shown_key(caller);
  const std::string_view stands_for = catalog_.identity_of(client_);
  known_ = shown.empty() ? nullptr : catalog_.keys()->find(shown);
  std::string_view why = "no API key was shown";
  if (known_ == nullptr && !stands_for.empty()) {
    known_ = catalog_.keys()->named(stands_for);
    if (known_ == nullptr)
      return Problem{ProblemKind::authentication,
                     "the key that stands for this address is not known here, or was revoked"};
  }
  if (known_ != nullptr) {
    const std::int64_t expires = known_->key.expires;
    if (expires == 0 || expires > unix_now()) return std::nullopt;
    why = "the API key has expired";
  } else if (!shown.empty()) {
    why = "the API key is not known here, or was revoked";
  }
  known_ = nullptr;
  return Problem{ProblemKind::authentication, std::string(why)};
}

CallFacts Admission::facts() const {
  CallFacts facts{.key = {}, .team = {}, .owner = {}, .model = model_, .route = route_};
  if (known_ == nullptr) return facts;
  facts.key = known_->key.name;
  facts.team = known_->key.team;
  facts.owner = known_->key.owner;
  return facts;
}

std::vector<BudgetUse> Admission::budgets_for(const CallFacts& facts) const {
  std::vector<BudgetUse> out;
  if (known_ != nullptr && known_->key.budget > 0) out.push_back(own_budget(known_->key));
  for (const policy::AiBudget& budget : catalog_.budgets()) {
    if (!covers(budget.scope, facts)) continue;
    const std::string_view one = one_of(budget.each, facts);
    std::string account = "budget/" + budget.name;
    if (budget.each != policy::AiEach::all) account.append("/").append(one);
    out.push_back({.account = account.append("/").append(word(budget.period)),
                   .what = "budget " + budget.name,
                   .limit = budget.micros,
                   .period = budget.period});
  }
  return out;
}

std::optional<Problem> Admission::may_ask(const Endpoint& endpoint, std::string_view model) {
  model_ = model;
  if (endpoint.operation == Operation::models) return std::nullopt;
  budgets_ = budgets_for(facts());
  const VirtualKey* key = this->key();
  if (model.empty()) {
    const bool limited = key != nullptr && (!key->models.empty() || key->is_metered());
    if (!limited && budgets_.empty()) return std::nullopt;
    const std::string who = limited ? "key " + key->name : budgets_.front().what;
    return Problem{ProblemKind::permission,
                   who + " has limits that cannot be kept on " + std::string(endpoint.path)};
  }
  if (key == nullptr || key->may_use(model)) return std::nullopt;
  return Problem{ProblemKind::permission,
                 "key " + key->name + " may not use model " + std::string(model)};
}

std::optional<Mediator::Answer> Admission::take(Shape shape, const Cost& estimate) {
  const std::int64_t now = unix_now();
  if (!budgets_.empty()) {
    if (const auto refused = catalog_.book().hold(budgets_, estimate.micros, now, hold_))
      return no_money(shape, *refused, estimate.micros, now);
  }
  if (known_ == nullptr) return std::nullopt;
  const auto refused = known_->state->admit(known_->key, estimate.tokens, steady_now());
  if (!refused) {
    tokens_ = estimate.tokens;
    return std::nullopt;
  }
  hold_.settle(0);
  const std::uint64_t seconds = refused->retry_after_ns / kSecond + 1;
  Mediator::Answer answer = problem_answer(
      shape, {ProblemKind::rate_limit,
              "key " + known_->key.name + " has used up its " + std::string(refused->limit)});
  answer.lines += "retry-after: " + std::to_string(seconds) + "\r\n" + limit_lines(shape);
  return answer;
}

// What calls under way hold back may come free at any moment; what is spent only with the next
// period, and then the SDKs are told not to try again by themselves.
Mediator::Answer Admission::no_money(Shape shape, const BudgetRefusal& refusal, std::int64_t micros,
                                     std::int64_t now) const {
  std::string why = in_vain(refusal, micros);
  if (refusal.for_now) {
    why += "; calls under way hold the rest";
    Mediator::Answer answer = problem_answer(shape, {ProblemKind::rate_limit, std::move(why)});
    answer.lines += "retry-after: 1\r\n" + limit_lines(shape);
    return answer;
  }
  Mediator::Answer answer = problem_answer(shape, {ProblemKind::budget, std::move(why)});
  answer.lines += "retry-after: " + std::to_string(refusal.ends - now) +
                  "\r\nx-should-retry: false\r\n" + limit_lines(shape);
  return answer;
}

void Admission::settle(const Cost& used) {
  hold_.settle(used.micros);
  if (!tokens_) return;
  known_->state->settle(known_->key, *tokens_, used.tokens);
  tokens_.reset();
}

std::string Admission::limit_lines(Shape shape) const {
  if (known_ == nullptr) return {};
  const VirtualKey& key = known_->key;
  const std::int64_t now = unix_now();
  std::string lines = rate_lines(shape, known_->state->requests(key, steady_now()),
                                 known_->state->tokens(key, steady_now()), now);
  if (key.budget == 0) return lines;
  const std::int64_t left = key.budget - catalog_.book().taken(own_budget(key), now);
  append_budget_lines(shape, key.budget, left, next_period(key.period, now), now, lines);
  return lines;
}

}  // namespace sluice::gateway::ai
