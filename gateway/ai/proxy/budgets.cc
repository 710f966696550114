#include "gateway/ai/proxy/budgets.h"

#include <algorithm>
#include <cstdio>

#include "gateway/ai/proxy/calendar.h"
#include "policy/schema/ai_controls.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kShared = "budget/(others)";
constexpr std::int64_t kMicros = 1'000'000;
constexpr std::int64_t kCent = 10'000;
constexpr std::int64_t kLongestPeriod = 32L * 24 * 3600;

std::string shared_account(policy::AiPeriod period) {
  return std::string(kShared).append("/").append(
      policy::kAiPeriodWords[static_cast<std::size_t>(period)]);
}

}  // namespace

// A new period begins with nothing. Calls that go on from the one before are that one's.
void Account::enter(std::int64_t period) {
  if (period <= period_) return;
  period_ = period;
  written_ = heard_ = settled_ = here_ = held_ = 0;
  last_.reset();
}

bool Account::hold(std::int64_t& period, std::int64_t limit, std::int64_t micros) {
  const std::scoped_lock lock(mutex_);
  enter(period);
  period = period_;
  if (elsewhere() + here_ + held_ + micros > limit) return false;
  held_ += micros;
  return true;
}

void Account::settle(std::int64_t period, std::int64_t held, std::int64_t used) {
  const std::scoped_lock lock(mutex_);
  if (period != period_) return;
  held_ = std::max<std::int64_t>(0, held_ - held);
  here_ += used;
  settled_ += used;
}

Account::State Account::state(std::int64_t period) const {
  const std::scoped_lock lock(mutex_);
  if (period != period_) return {};
  return {.spent = elsewhere() + here_, .held = held_};
}

void Account::set_elsewhere(std::int64_t period, std::int64_t micros) {
  const std::scoped_lock lock(mutex_);
  enter(period);
  if (period == period_) written_ = micros;
}

void Account::note(std::int64_t period, std::int64_t micros) {
  const std::scoped_lock lock(mutex_);
  enter(period);
  if (period == period_) held_ += micros;
}

void Account::heard(std::int64_t period, const State& all) {
  const std::scoped_lock lock(mutex_);
  enter(period);
  if (period != period_) return;
  heard_ = std::max<std::int64_t>(0, all.spent - here_ - held_);
  settled_ = std::max(settled_, all.spent - all.held);
  last_ = {all.spent, here_ + held_};
}

std::int64_t Account::share(std::int64_t period, std::int64_t limit,
                            std::uint32_t gateways) const {
  const std::scoped_lock lock(mutex_);
  const auto part = [&](std::int64_t known) {
    return std::max<std::int64_t>(0, limit - known) / std::max(gateways, 1U);
  };
  if (period != period_) return part(0);
  if (!last_) return written_ + part(written_);
  return elsewhere() + last_->own + part(last_->all);
}

std::int64_t Account::settled(std::int64_t period) const {
  const std::scoped_lock lock(mutex_);
  return period == period_ ? std::max(settled_, written_ + here_) : 0;
}

bool Account::idle_since(std::int64_t unix_seconds) const {
  const std::scoped_lock lock(mutex_);
  return held_ == 0 && period_ < unix_seconds;
}

BudgetHold::~BudgetHold() {
  settle(0);
}

void BudgetHold::settle(std::int64_t used) {
  for (const Part& part : parts_) {
    part.account->settle(part.period, held_, used);
    if (used > 0) book_->on_spent_(part.name, part.period, used);
  }
  parts_.clear();
}

// An account has one period at a time: those that share one have periods of the same length.
std::shared_ptr<Account> BudgetBook::account(const BudgetUse& use, std::int64_t period,
                                             std::string* shared_as) {
  const std::scoped_lock lock(mutex_);
  const bool full = accounts_.size() >= kMostAccounts && !accounts_.contains(use.account);
  const std::string key = full ? shared_account(use.period) : use.account;
  Entry& entry = accounts_[key];
  if (!entry.account) entry.account = std::make_shared<Account>();
  if (shared_as != nullptr) *shared_as = key;
  if (entry.period < period) {
    entry.period = period;
    entry.account->set_elsewhere(period, elsewhere_(key, period));
  }
  return entry.account;
}

std::optional<BudgetRefusal> BudgetBook::hold(const std::vector<BudgetUse>& budgets,
                                              std::int64_t micros, std::int64_t unix_seconds,
                                              BudgetHold& out) {
  out.book_ = this;
  out.held_ = micros;
  for (const BudgetUse& use : budgets) {
    std::int64_t period = period_start(use.period, unix_seconds);
    std::string name;
    auto of = account(use, period, &name);
    if (of->hold(period, use.limit, micros)) {
      out.parts_.push_back({std::move(of), std::move(name), period});
      continue;
    }
    const Account::State state = of->state(period);
    BudgetRefusal refusal{
        .what = use.what,
        .left = std::max<std::int64_t>(0, use.limit - state.spent - state.held),
        .ends = next_period(use.period, unix_seconds),
        .for_now = state.held > 0 && state.spent + micros <= use.limit,
        .period = use.period};
    out.settle(0);
    return refusal;
  }
  return std::nullopt;
}

void BudgetBook::note(const std::vector<BudgetUse>& budgets, const std::vector<Account::State>& known,
                      std::int64_t micros, std::int64_t unix_seconds, BudgetHold& out) {
  out.book_ = this;
  out.held_ = micros;
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    const std::int64_t period = period_start(budgets[i].period, unix_seconds);
    std::string name;
    auto of = account(budgets[i], period, &name);
    of->note(period, micros);
    of->heard(period, known[i]);
    out.parts_.push_back({std::move(of), std::move(name), period});
  }
}

void BudgetBook::heard(const std::vector<BudgetUse>& budgets,
                       const std::vector<Account::State>& known, std::int64_t unix_seconds) {
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    const std::int64_t period = period_start(budgets[i].period, unix_seconds);
    account(budgets[i], period, nullptr)->heard(period, known[i]);
  }
}

void BudgetBook::share(std::vector<BudgetUse>& budgets, std::uint32_t gateways,
                       std::int64_t unix_seconds) {
  for (BudgetUse& use : budgets) {
    const std::int64_t period = period_start(use.period, unix_seconds);
    use.limit = account(use, period, nullptr)->share(period, use.limit, gateways);
  }
}

std::int64_t BudgetBook::settled(const BudgetUse& budget, std::int64_t unix_seconds) {
  const std::int64_t period = period_start(budget.period, unix_seconds);
  return account(budget, period, nullptr)->settled(period);
}

std::int64_t BudgetBook::taken(const BudgetUse& budget, std::int64_t unix_seconds) {
  const std::int64_t period = period_start(budget.period, unix_seconds);
  const Account::State state = account(budget, period, nullptr)->state(period);
  return state.spent + state.held;
}

std::vector<std::pair<std::string, Account::State>> BudgetBook::states(std::size_t most) const {
  std::vector<std::pair<std::string, Account::State>> out;
  const std::scoped_lock lock(mutex_);
  for (const auto& [name, entry] : accounts_) {
    if (out.size() == most) break;
    out.emplace_back(name, entry.account->state(entry.period));
  }
  return out;
}

void BudgetBook::refresh() {
  std::vector<std::pair<std::string, Entry>> all;
  {
    const std::scoped_lock lock(mutex_);
    all.assign(accounts_.begin(), accounts_.end());
  }
  for (const auto& [name, entry] : all)
    entry.account->set_elsewhere(entry.period, elsewhere_(name, entry.period));
}

void BudgetBook::sweep(std::int64_t unix_seconds) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(accounts_, [&](const auto& entry) {
    return entry.second.account.use_count() == 1 &&
           entry.second.account->idle_since(unix_seconds - kLongestPeriod);
  });
}

std::size_t BudgetBook::size() const {
  const std::scoped_lock lock(mutex_);
  return accounts_.size();
}

std::string dollars_text(std::int64_t micros) {
  const bool fine = micros % kCent != 0 && micros < 100 * kCent;
  const double dollars = static_cast<double>(micros) / static_cast<double>(kMicros);
  char text[40];
  std::snprintf(text, sizeof text, fine ? "$%.6f" : "$%.2f", dollars);
  return text;
}

}  // namespace sluice::gateway::ai
