#include "gateway/ai/proxy/admission.h"

#include <algorithm>
#include <utility>

#include "gateway/ai/proxy/answer_reader.h"
#include "gateway/ai/proxy/calendar.h"
#include "gateway/ai/proxy/caller_key.h"
#include "gateway/ai/proxy/path_cost.h"
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
  const std::string_view stands_for = catalog_.identity_of(caller_);
  known_ = shown.empty() ? nullptr : catalog_.keys()->find(shown);
  std::string_view why = "no API key was shown";
  if (known_ == nullptr && !stands_for.empty()) {
    known_ = catalog_.keys()->named(stands_for);
    if (known_ == nullptr)
      return Problem{ProblemKind::authentication,
                     "the key that stands for this caller is not known here, or was revoked"};
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

std::string_view Admission::foreign_key(const http1::RequestHead& caller) const {
  const std::string_view shown = shown_key(caller);
  const bool is_virtual = shown.starts_with(kVirtualKeyPrefix) ||
                          (catalog_.keys() != nullptr && catalog_.keys()->find(shown) != nullptr);
  return is_virtual ? std::string_view() : shown;
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
  const PathCost cost = path_cost(endpoint);
  const bool names_model = !model.empty() && cost != PathCost::unknown;
  const bool counts = cost == PathCost::free || (cost == PathCost::said && names_model);
  const bool by_model = key != nullptr && !key->models.empty();
  const bool by_use = key != nullptr && key->is_metered();
  const bool key_fails = (by_model && !names_model) || (by_use && !counts);
  if (key_fails || (!budgets_.empty() && !counts)) {
    const std::string who = key_fails ? "key " + key->name : budgets_.front().what;
    return Problem{ProblemKind::permission,
                   who + " has limits that cannot be kept on " + std::string(endpoint.path)};
  }
  if (key == nullptr || model.empty() || key->may_use(model)) return std::nullopt;
  return Problem{ProblemKind::permission,
                 "key " + key->name + " may not use model " + std::string(model)};
}

std::shared_ptr<SharedTake> Admission::shares(const Cost& estimate) {
  if (!catalog_.is_shared()) return nullptr;
  const std::int64_t now = unix_now();
  auto take = std::make_shared<SharedTake>();
  if (known_ != nullptr) {
    const auto limits = key_limits(known_->key, estimate.tokens);
    const auto ahead = known_->state->ahead_ns(steady_now());
    for (std::size_t i = 0; i < limits.size(); ++i) {
      const KeyLimit& limit = limits[i];
      if (limit.count == 0) continue;
      take->rates.push_back({.key = "key:" + known_->key.id + ":" + std::string(limit.word),
                             .interval_ns = limit.gcra.emission_interval,
                             .tolerance_ns = limit.gcra.tolerance,
                             .cost = limit.cost,
                             .ahead_ns = ahead[i]});
      asked_rates_.push_back(limit);
    }
  }
  for (const BudgetUse& use : budgets_) {
    const std::int64_t period = period_start(use.period, now);
    take->sums.push_back({.key = use.account + ":" + std::to_string(period),
                          .limit = use.limit,
                          .amount = estimate.micros,
                          .spent = catalog_.book().settled(use, now),
                          .ends = next_period(use.period, now)});
  }
  if (take->rates.empty() && take->sums.empty()) return nullptr;
  return asked_ = std::move(take);
}

std::optional<Mediator::Answer> Admission::take(Shape shape, const Cost& estimate,
                                                const SharedVerdict* said, const Peers& peers) {
  if (!asked_) return take_here(shape, estimate, key(), budgets_);
  if (said == nullptr) return take_alone(shape, estimate, peers);
  return take_said(shape, estimate, *said);
}

Admission::Refusal Admission::take_here(Shape shape, const Cost& estimate, const VirtualKey* key,
                                        const std::vector<BudgetUse>& budgets) {
  if (!budgets.empty()) {
    const std::int64_t now = unix_now();
    if (const auto refused = catalog_.book().hold(budgets, estimate.micros, now, hold_))
      return no_money(shape, *refused, estimate.micros, now);
  }
  if (key == nullptr || !key->has_rates()) return std::nullopt;
  if (const auto refused = known_->state->admit(*key, estimate.tokens, steady_now())) {
    hold_.settle(0);
    return no_rate(shape, *refused);
  }
  tokens_ = estimate.tokens;
  return std::nullopt;
}

// Redis cannot be asked: each gateway gives out its share of what it knows to be left.
Admission::Refusal Admission::take_alone(Shape shape, const Cost& estimate, const Peers& peers) {
  if (peers.on_loss == policy::OnLoss::deny) {
    Mediator::Answer answer = problem_answer(
        shape,
        {ProblemKind::rate_limit, "what is left of limits and budgets is not known just now"});
    answer.lines += "retry-after: 1\r\n";
    return answer;
  }
  const std::uint32_t gateways = peers.on_loss == policy::OnLoss::per_node ? 1 : peers.gateways;
  std::vector<BudgetUse> budgets = budgets_;
  catalog_.book().share(budgets, gateways, unix_now());
  const VirtualKey share = known_ != nullptr ? share_of(known_->key, gateways) : VirtualKey{};
  auto refused = take_here(shape, estimate, known_ != nullptr ? &share : nullptr, budgets);
  alone_ = !refused;
  return refused;
}

Admission::Refusal Admission::take_said(Shape shape, const Cost& estimate,
                                        const SharedVerdict& said) {
  for (std::size_t i = 0; i < asked_rates_.size(); ++i) {
    const KeyLimit& limit = asked_rates_[i];
    const std::uint64_t ahead = std::min(said.ahead_ns[i], limit.gcra.tolerance);
    const KeyRate rate{.limit = limit.count,
                       .remaining = (limit.gcra.tolerance - ahead) / limit.gcra.emission_interval,
                       .reset_ns = said.ahead_ns[i]};
    if (limit.word == "requests") requests_ = rate;
    if (limit.word == "tokens") per_minute_ = rate;
  }
  std::vector<Account::State> known;
  for (const SharedVerdict::Sum& sum : said.sums)
    known.push_back({.spent = sum.spent, .held = sum.held});
  const std::int64_t now = unix_now();
  if (said.refused != SharedVerdict::kNone) catalog_.book().heard(budgets_, known, now);
  if (said.refused < asked_rates_.size()) {
    const KeyLimit& limit = asked_rates_[said.refused];
    const std::uint64_t next =
        said.ahead_ns[said.refused] + limit.gcra.emission_interval * limit.cost;
    return no_rate(shape, {limit.name, next - std::min(next, limit.gcra.tolerance)});
  }
  if (said.refused != SharedVerdict::kNone) {
    const std::size_t at = said.refused - asked_rates_.size();
    const BudgetUse& use = budgets_[at];
    const SharedVerdict::Sum& sum = said.sums[at];
    return no_money(shape,
                    {.what = use.what,
                     .left = std::max<std::int64_t>(0, use.limit - sum.spent),
                     .ends = next_period(use.period, now),
                     .for_now = sum.held > 0 && sum.spent - sum.held + estimate.micros <= use.limit,
                     .period = use.period},
                    estimate.micros, now);
  }
  granted_ = true;
  if (!budgets_.empty()) catalog_.book().note(budgets_, known, estimate.micros, now, hold_);
  if (known_ != nullptr) {
    known_->state->charge(known_->key, estimate.tokens, steady_now());
    tokens_ = estimate.tokens;
  }
  return std::nullopt;
}

Mediator::Answer Admission::no_rate(Shape shape, const KeyRefusal& refused) const {
  const std::uint64_t seconds = refused.retry_after_ns / kSecond + 1;
  Mediator::Answer answer = problem_answer(
      shape, {ProblemKind::rate_limit,
              "key " + known_->key.name + " has used up its " + std::string(refused.limit)});
  answer.lines += "retry-after: " + std::to_string(seconds) + "\r\n";
  append_limit_lines(shape, answer.lines);
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
    answer.lines += "retry-after: 1\r\n";
    append_limit_lines(shape, answer.lines);
    return answer;
  }
  Mediator::Answer answer = problem_answer(shape, {ProblemKind::budget, std::move(why)});
  answer.lines +=
      "retry-after: " + std::to_string(refusal.ends - now) + "\r\nx-should-retry: false\r\n";
  append_limit_lines(shape, answer.lines);
  return answer;
}

std::vector<SharedCharge> Admission::charges(const Cost& used) const {
  if (!granted_ && !alone_) return {};
  // Of what was let in without Redis all is to be charged.
  std::vector<SharedCharge> charges;
  for (std::size_t i = 0; i < asked_rates_.size(); ++i) {
    const SharedRate& rate = asked_->rates[i];
    const bool requests = asked_rates_[i].word == "requests";
    const auto total = static_cast<std::int64_t>(requests ? 1 : used.tokens);
    const std::int64_t more = total - (alone_ ? 0 : static_cast<std::int64_t>(rate.cost));
    if (more != 0)
      charges.push_back({.key = rate.key, .interval_ns = rate.interval_ns, .more = more});
  }
  const std::int64_t now = unix_now();
  for (std::size_t i = 0; i < asked_->sums.size(); ++i) {
    const SharedSum& sum = asked_->sums[i];
    const std::int64_t held = alone_ ? 0 : sum.amount;
    const bool same_period = now < sum.ends;
    charges.push_back({.key = sum.key,
                       .more = used.micros - held,
                       .held = held,
                       .spent = same_period ? catalog_.book().settled(budgets_[i], now) : 0,
                       .ends = sum.ends});
  }
  return charges;
}

void Admission::settle(const Cost& used) {
  hold_.settle(used.micros);
  if (tokens_) known_->state->settle(known_->key, *tokens_, used.tokens, steady_now());
  tokens_.reset();
  granted_ = alone_ = false;
}

void Admission::append_limit_lines(Shape shape, std::string& out) const {
  if (known_ == nullptr) return;
  const VirtualKey& key = known_->key;
  if (key.requests_per_minute == 0 && !key.is_metered()) return;
  const std::int64_t now = unix_now();
  out += rate_lines(shape, requests_ ? *requests_ : known_->state->requests(key, steady_now()),
                    per_minute_ ? *per_minute_ : known_->state->tokens(key, steady_now()), now);
  if (key.budget == 0) return;
  const std::int64_t left = key.budget - catalog_.book().taken(own_budget(key), now);
  append_budget_lines(shape, key.budget, left, next_period(key.period, now), now, out);
}

}  // namespace sluice::gateway::ai
