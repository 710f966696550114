#include "gateway/ai/proxy/key_state.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "policy/limits_rate.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::uint64_t kMinute = 60'000'000'000;
constexpr std::uint64_t kDay = 24 * 60 * kMinute;

policy::GcraParameters rate(std::uint64_t count, std::uint64_t period_ns) {
  const std::uint64_t interval = std::max<std::uint64_t>((period_ns + count - 1) / count, 1);
  return {.emission_interval = interval, .tolerance = interval * count, .max_delay = 0};
}

// A request larger than the whole limit is let in when nothing of it is used up.
std::uint64_t at_most(std::uint64_t cost, std::uint64_t count) {
  return std::min(cost, count);
}

policy::LimitVerdict look(const std::atomic<std::uint64_t>& tat, std::uint64_t count,
                          std::uint64_t period_ns, std::uint64_t cost, std::uint64_t now_ns) {
  const policy::GcraParameters gcra = rate(count, period_ns);
  const auto step =
      policy::gcra_step(gcra, tat.load(std::memory_order_relaxed), now_ns, at_most(cost, count));
  return policy::gcra_verdict(gcra, step, now_ns, at_most(cost, count));
}

// Takes it where it is allowed.
policy::LimitVerdict take(std::atomic<std::uint64_t>& tat, std::uint64_t count,
                          std::uint64_t period_ns, std::uint64_t cost, std::uint64_t now_ns) {
  const policy::GcraParameters gcra = rate(count, period_ns);
  cost = at_most(cost, count);
  std::uint64_t seen = tat.load(std::memory_order_relaxed);
  for (;;) {
    const policy::GcraStep step = policy::gcra_step(gcra, seen, now_ns, cost);
    if (!step.allowed || tat.compare_exchange_weak(seen, step.tat, std::memory_order_relaxed))
      return policy::gcra_verdict(gcra, step, now_ns, cost);
  }
}

void correct(std::atomic<std::uint64_t>& tat, std::uint64_t count, std::uint64_t period_ns,
             std::uint64_t estimated, std::uint64_t used) {
  const std::uint64_t interval = rate(count, period_ns).emission_interval;
  const std::uint64_t back = interval * at_most(estimated, count);
  const std::uint64_t more = interval * used;
  std::uint64_t seen = tat.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  do {
    next = seen + more > back ? seen + more - back : 0;
  } while (!tat.compare_exchange_weak(seen, next, std::memory_order_relaxed));
}

KeyRate rate_of(const std::atomic<std::uint64_t>& tat, std::uint64_t count, std::uint64_t now_ns) {
  if (count == 0) return {};
  const auto verdict = look(tat, count, kMinute, 0, now_ns);
  return {.limit = count, .remaining = verdict.remaining, .reset_ns = verdict.reset_ns};
}

// Of the calendar, as a number that grows.
std::int64_t period_of(BudgetPeriod period, std::int64_t unix_seconds) {
  using namespace std::chrono;
  const sys_days day = floor<days>(sys_seconds(seconds(unix_seconds)));
  if (period == BudgetPeriod::day) return day.time_since_epoch().count() + 1;
  const year_month_day date(day);
  return static_cast<int>(date.year()) * 12L + static_cast<unsigned>(date.month());
}

std::uint64_t until_next(BudgetPeriod period, std::int64_t unix_seconds) {
  using namespace std::chrono;
  const sys_seconds now{seconds(unix_seconds)};
  const sys_days day = floor<days>(now);
  const year_month_day date(day);
  const sys_days next = period == BudgetPeriod::day
                            ? day + days(1)
                            : sys_days((date.year() / date.month() + months(1)) / 1);
  return static_cast<std::uint64_t>(nanoseconds(sys_seconds(next) - now).count());
}

}  // namespace

std::optional<KeyRefusal> KeyState::admit(const VirtualKey& key, const Cost& estimate,
                                          std::uint64_t now_ns, std::int64_t unix_seconds) {
  struct Rate {
    std::string_view name;
    std::atomic<std::uint64_t>* tat;
    std::uint64_t count, period, cost;
  };
  const std::array<Rate, 3> rates{
      {{"requests per minute", &requests_, key.requests_per_minute, kMinute, 1},
       {"tokens per minute", &minute_, key.tokens_per_minute, kMinute, estimate.tokens},
       {"tokens per day", &day_, key.tokens_per_day, kDay, estimate.tokens}}};
  std::optional<KeyRefusal> refused;
  std::size_t asked = 0;
  for (; asked < rates.size() && !refused; ++asked) {
    const Rate& one = rates[asked];
    if (one.count == 0) continue;
    const auto verdict = take(*one.tat, one.count, one.period, one.cost, now_ns);
    if (!verdict.allowed) refused = KeyRefusal{one.name, verdict.retry_after_ns};
  }
  if (!refused && key.budget > 0) {
    const std::int64_t period = period_of(key.period, unix_seconds);
    if (spend(period, estimate.micros) <= key.budget) return std::nullopt;
    spend(period, -estimate.micros);
    refused = KeyRefusal{"budget", until_next(key.period, unix_seconds)};
    ++asked;
  }
  if (!refused) return std::nullopt;
  for (std::size_t i = 0; i + 1 < asked; ++i)
    if (rates[i].count > 0)
      correct(*rates[i].tat, rates[i].count, rates[i].period, rates[i].cost, 0);
  return refused;
}

void KeyState::settle(const VirtualKey& key, const Cost& estimate, const Cost& used,
                      std::int64_t unix_seconds) {
  if (key.tokens_per_minute > 0)
    correct(minute_, key.tokens_per_minute, kMinute, estimate.tokens, used.tokens);
  if (key.tokens_per_day > 0) correct(day_, key.tokens_per_day, kDay, estimate.tokens, used.tokens);
  if (key.budget > 0) spend(period_of(key.period, unix_seconds), used.micros - estimate.micros);
}

KeyRate KeyState::requests(const VirtualKey& key, std::uint64_t now_ns) const {
  return rate_of(requests_, key.requests_per_minute, now_ns);
}

KeyRate KeyState::tokens(const VirtualKey& key, std::uint64_t now_ns) const {
  return rate_of(minute_, key.tokens_per_minute, now_ns);
}

std::int64_t KeyState::spent(const VirtualKey& key, std::int64_t unix_seconds) const {
  return spent_in(period_of(key.period, unix_seconds));
}

void KeyState::restore(const VirtualKey& key, std::int64_t spent, std::int64_t unix_seconds) {
  period_.store(period_of(key.period, unix_seconds), std::memory_order_relaxed);
  spent_.store(spent, std::memory_order_relaxed);
}

std::int64_t KeyState::spent_in(std::int64_t period) const {
  return period_.load(std::memory_order_acquire) == period ? spent_.load(std::memory_order_relaxed)
                                                           : 0;
}

// The first to spend in a new period begins it; what another thread spends in that moment may be
// lost with the old one, which is at most what is in flight.
std::int64_t KeyState::spend(std::int64_t period, std::int64_t micros) {
  std::int64_t seen = period_.load(std::memory_order_acquire);
  if (seen != period && period_.compare_exchange_strong(seen, period, std::memory_order_acq_rel))
    spent_.store(0, std::memory_order_relaxed);
  return spent_.fetch_add(micros, std::memory_order_relaxed) + micros;
}

}  // namespace sluice::gateway::ai
