#include "gateway/ai/proxy/key_state.h"

#include <algorithm>

namespace sluice::gateway::ai {
namespace {

using Tat = std::atomic<std::uint64_t>;

constexpr std::uint64_t kMinute = 60'000'000'000;
constexpr std::uint64_t kDay = 24 * 60 * kMinute;

// A request larger than the whole limit is let in when nothing of it is used up.
KeyLimit limit(std::string_view name, std::string_view word, std::uint64_t count,
               std::uint64_t period_ns, std::uint64_t cost) {
  if (count == 0) return {.name = name, .word = word};
  const std::uint64_t interval = std::max<std::uint64_t>((period_ns + count - 1) / count, 1);
  return {.name = name,
          .word = word,
          .count = count,
          .gcra = {.emission_interval = interval, .tolerance = interval * count, .max_delay = 0},
          .cost = std::min(cost, count)};
}

// Takes it where it is allowed.
policy::LimitVerdict take(Tat& tat, const KeyLimit& limit, std::uint64_t now_ns) {
  std::uint64_t seen = tat.load(std::memory_order_relaxed);
  for (;;) {
    const policy::GcraStep step = policy::gcra_step(limit.gcra, seen, now_ns, limit.cost);
    if (!step.allowed || tat.compare_exchange_weak(seen, step.tat, std::memory_order_relaxed))
      return policy::gcra_verdict(limit.gcra, step, now_ns, limit.cost);
  }
}

void correct(Tat& tat, const KeyLimit& limit, std::uint64_t estimated, std::uint64_t used,
             std::uint64_t now_ns) {
  if (limit.count == 0) return;
  std::uint64_t seen = tat.load(std::memory_order_relaxed);
  while (!tat.compare_exchange_weak(
      seen,
      policy::gcra_settle(limit.gcra, seen, now_ns, std::min(estimated, limit.count), used),
      std::memory_order_relaxed)) {
  }
}

KeyRate rate_of(const Tat& tat, const KeyLimit& limit, std::uint64_t now_ns) {
  if (limit.count == 0) return {};
  const auto step =
      policy::gcra_step(limit.gcra, tat.load(std::memory_order_relaxed), now_ns, 0);
  const auto verdict = policy::gcra_verdict(limit.gcra, step, now_ns, 0);
  return {.limit = limit.count, .remaining = verdict.remaining, .reset_ns = verdict.reset_ns};
}

std::uint64_t share(std::uint64_t count, std::uint32_t gateways) {
  return count == 0 ? 0 : std::max<std::uint64_t>(count / std::max(gateways, 1U), 1);
}

}  // namespace

std::array<KeyLimit, 3> key_limits(const VirtualKey& key, std::uint64_t tokens) {
  return {limit("requests per minute", "requests", key.requests_per_minute, kMinute, 1),
          limit("tokens per minute", "tokens", key.tokens_per_minute, kMinute, tokens),
          limit("tokens per day", "day", key.tokens_per_day, kDay, tokens)};
}

VirtualKey share_of(const VirtualKey& key, std::uint32_t gateways) {
  VirtualKey out = key;
  out.requests_per_minute = share(key.requests_per_minute, gateways);
  out.tokens_per_minute = share(key.tokens_per_minute, gateways);
  out.tokens_per_day = share(key.tokens_per_day, gateways);
  return out;
}

std::optional<KeyRefusal> KeyState::admit(const VirtualKey& key, std::uint64_t tokens,
                                          std::uint64_t now_ns) {
  const auto limits = key_limits(key, tokens);
  std::optional<KeyRefusal> refused;
  std::size_t asked = 0;
  for (; asked < limits.size() && !refused; ++asked) {
    if (limits[asked].count == 0) continue;
    const auto verdict = take(tats_[asked], limits[asked], now_ns);
    if (!verdict.allowed) refused = KeyRefusal{limits[asked].name, verdict.retry_after_ns};
  }
  if (!refused) return std::nullopt;
  for (std::size_t i = 0; i + 1 < asked; ++i)
    correct(tats_[i], limits[i], limits[i].cost, 0, now_ns);
  return refused;
}

void KeyState::settle(const VirtualKey& key, std::uint64_t estimate, std::uint64_t used,
                      std::uint64_t now_ns) {
  const auto limits = key_limits(key, estimate);
  for (std::size_t i = 1; i < limits.size(); ++i)  // a request stays one
    correct(tats_[i], limits[i], estimate, used, now_ns);
}

void KeyState::charge(const VirtualKey& key, std::uint64_t tokens, std::uint64_t now_ns) {
  const auto limits = key_limits(key, tokens);
  for (std::size_t i = 0; i < limits.size(); ++i)
    correct(tats_[i], limits[i], 0, limits[i].cost, now_ns);
}

std::array<std::uint64_t, 3> KeyState::ahead_ns(std::uint64_t now_ns) const {
  std::array<std::uint64_t, 3> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t tat = tats_[i].load(std::memory_order_relaxed);
    out[i] = tat - std::min(tat, now_ns);
  }
  return out;
}

KeyRate KeyState::requests(const VirtualKey& key, std::uint64_t now_ns) const {
  return rate_of(tats_[0], key_limits(key, 0)[0], now_ns);
}

KeyRate KeyState::tokens(const VirtualKey& key, std::uint64_t now_ns) const {
  return rate_of(tats_[1], key_limits(key, 0)[1], now_ns);
}

}  // namespace sluice::gateway::ai
