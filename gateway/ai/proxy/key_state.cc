#include "gateway/ai/proxy/key_state.h"

#include <algorithm>
#include <array>

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

}  // namespace

std::optional<KeyRefusal> KeyState::admit(const VirtualKey& key, std::uint64_t tokens,
                                          std::uint64_t now_ns) {
  struct Rate {
    std::string_view name;
    std::atomic<std::uint64_t>* tat;
    std::uint64_t count, period, cost;
  };
  const std::array<Rate, 3> rates{
      {{"requests per minute", &requests_, key.requests_per_minute, kMinute, 1},
       {"tokens per minute", &minute_, key.tokens_per_minute, kMinute, tokens},
       {"tokens per day", &day_, key.tokens_per_day, kDay, tokens}}};
  std::optional<KeyRefusal> refused;
  std::size_t asked = 0;
  for (; asked < rates.size() && !refused; ++asked) {
    const Rate& one = rates[asked];
    if (one.count == 0) continue;
    const auto verdict = take(*one.tat, one.count, one.period, one.cost, now_ns);
    if (!verdict.allowed) refused = KeyRefusal{one.name, verdict.retry_after_ns};
  }
  if (!refused) return std::nullopt;
  for (std::size_t i = 0; i + 1 < asked; ++i)
    if (rates[i].count > 0)
      correct(*rates[i].tat, rates[i].count, rates[i].period, rates[i].cost, 0);
  return refused;
}

void KeyState::settle(const VirtualKey& key, std::uint64_t estimate, std::uint64_t used) {
  if (key.tokens_per_minute > 0) correct(minute_, key.tokens_per_minute, kMinute, estimate, used);
  if (key.tokens_per_day > 0) correct(day_, key.tokens_per_day, kDay, estimate, used);
}

KeyRate KeyState::requests(const VirtualKey& key, std::uint64_t now_ns) const {
  return rate_of(requests_, key.requests_per_minute, now_ns);
}

KeyRate KeyState::tokens(const VirtualKey& key, std::uint64_t now_ns) const {
  return rate_of(minute_, key.tokens_per_minute, now_ns);
}

}  // namespace sluice::gateway::ai
