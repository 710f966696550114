#include "policy/balancing.h"

#include <cmath>

namespace sluice::policy {

namespace {

using Level = Candidates::Level;

// One random number as several (splitmix64's finaliser: Steele, Lea, Flood, 2014).
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::uint32_t high(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}

// Maps 32 random bits onto [0, total) by multiplication: no division, bias below total / 2^32.
std::uint64_t scale(std::uint32_t random, std::uint64_t total) {
  const std::uint64_t low = total & 0xffffffff;
  return (total >> 32) * random + (low * random >> 32);
}

bool tried(const PickRequest& request, std::uint32_t endpoint) {
  return std::ranges::find(request.tried, endpoint) != request.tried.end();
}

std::uint32_t member(const Candidates& candidates, std::uint32_t place) {
  return candidates.members()[place];
}

// The place in members() whose running weight is the first above `point`.
std::uint32_t place_of(const Candidates& candidates, const Level& level, std::uint64_t point) {
  if (level.uniform) {
    return level.begin + static_cast<std::uint32_t>(point / (level.total / level.size()));
  }
  std::uint32_t low = level.begin;
  std::uint32_t end = level.end - 1;
  while (low < end) {
    const std::uint32_t middle = low + (end - low) / 2;
    if (candidates.running_weight(middle) > point) {
      end = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

std::uint64_t weight_at(const Candidates& candidates, std::uint32_t place) {
  return candidates.weight(member(candidates, place));
}

// By weight, of one level, but `without` and what was tried. For retries: looks at every one.
std::optional<std::uint32_t> draw_untried(const Candidates& candidates, const Level& level,
                                          const PickRequest& request,
                                          std::optional<std::uint32_t> without,
                                          std::uint32_t random) {
  const auto weight = [&](std::uint32_t endpoint) {
    return endpoint == without || tried(request, endpoint) ? 0 : candidates.weight(endpoint);
  };
  const auto members = candidates.members().subspan(level.begin, level.size());
  std::uint64_t total = 0;
  for (const std::uint32_t endpoint : members)
    total += weight(endpoint);
  if (total == 0) return std::nullopt;
  std::uint64_t left = scale(random, total);
  for (const std::uint32_t endpoint : members) {
    if (left < weight(endpoint)) return endpoint;
    left -= weight(endpoint);
  }
  return std::nullopt;
}

std::optional<std::uint32_t> draw(const Candidates& candidates, const Level& level,
                                  const PickRequest& request, std::uint32_t random) {
  if (!request.tried.empty()) {
    return draw_untried(candidates, level, request, std::nullopt, random);
  }
  return member(candidates, place_of(candidates, level, scale(random, level.total)));
}

// Equals take turns.
std::optional<std::uint32_t> take_turns(const Candidates& candidates, const Level& level,
                                        const PickRequest& request, BalancerState& state) {
  for (std::uint32_t i = 0; i < level.size(); ++i) {
    const auto place = static_cast<std::uint32_t>(state.next++ % level.size());
    const std::uint32_t endpoint = member(candidates, level.begin + place);
    if (request.tried.empty() || !tried(request, endpoint)) return endpoint;
  }
  return std::nullopt;
}

// The next place on the level's ring. What was tried is passed over a few times; then the rest is
// drawn.
std::optional<std::uint32_t> take_turns_by_weight(const Candidates& candidates, const Level& level,
                                                  const PickRequest& request,
                                                  BalancerState& state) {
  constexpr int kTurns = 4;
  for (int i = 0; i < kTurns; ++i) {
    // The level may have another ring than the last time.
    state.position = (state.position % level.turns + level.stride) % level.turns;
    const std::uint32_t endpoint =
        member(candidates, place_of(candidates, level, state.position * level.unit));
    if (request.tried.empty() || !tried(request, endpoint)) return endpoint;
  }
  return draw_untried(candidates, level, request, std::nullopt, high(mix(request.random)));
}

std::optional<std::uint32_t> pick_maglev(const Candidates& candidates, const Level& level,
                                         const PickRequest& request) {
  if (level.priority >= request.tables.size() || request.tables[level.priority].empty()) {
    return draw(candidates, level, request, high(mix(request.random)));
  }
  return request.tables[level.priority].find(request.hash, [&](std::uint32_t endpoint) {
    return endpoint < candidates.endpoints() && candidates.contains(endpoint) &&
           !tried(request, endpoint);
  });
}

std::optional<std::uint32_t> pick_in(const Candidates& candidates, const Level& level,
                                     const PickRequest& request, BalancerState& state) {
  switch (request.policy) {
    case LbPolicy::round_robin:
      return level.uniform ? take_turns(candidates, level, request, state)
                           : take_turns_by_weight(candidates, level, request, state);
    case LbPolicy::maglev:
      return pick_maglev(candidates, level, request);
    case LbPolicy::random:
    case LbPolicy::least_request:
    case LbPolicy::peak_ewma:
      break;
  }
  return draw(candidates, level, request, high(mix(request.random)));
}

// What a hash leads to must not depend on chance.
std::uint32_t level_random(const PickRequest& request) {
  return high(request.policy == LbPolicy::maglev ? mix(request.hash) : request.random);
}

}  // namespace

namespace balancing {

std::optional<std::pair<std::uint32_t, std::uint32_t>> draw_two(const Candidates& candidates,
                                                                const PickRequest& request) {
  const Level* level = candidates.level(level_random(request));
  if (level == nullptr) return std::nullopt;
  const std::uint64_t random = mix(request.random);
  const auto low = static_cast<std::uint32_t>(random);
  if (!request.tried.empty()) {
    auto first = draw_untried(candidates, *level, request, std::nullopt, high(random));
    for (const Level& other : candidates.levels()) {
      if (!first) first = draw_untried(candidates, other, request, std::nullopt, high(random));
    }
    if (!first) return std::nullopt;
    return std::pair(*first,
                     draw_untried(candidates, *level, request, *first, low).value_or(*first));
  }
  const std::uint32_t first = place_of(candidates, *level, scale(high(random), level->total));
  if (level->size() == 1) return std::pair(member(candidates, first), member(candidates, first));
  // As if the first were not there: points at or behind its stretch of weight move past it.
  const std::uint64_t weight = weight_at(candidates, first);
  std::uint64_t point = scale(low, level->total - weight);
  if (point >= candidates.running_weight(first) - weight) point += weight;
  const std::uint32_t second = place_of(candidates, *level, point);
  return std::pair(member(candidates, first), member(candidates, second));
}

std::optional<std::uint32_t> pick_one(const Candidates& candidates, const PickRequest& request,
                                      BalancerState& state) {
  const Level* level = candidates.level(level_random(request));
  if (level == nullptr) return std::nullopt;
  auto picked = pick_in(candidates, *level, request, state);
  // A retry leaves its level rather than try the same endpoint again.
  for (const Level& other : candidates.levels()) {
    if (!picked && &other != level) picked = pick_in(candidates, other, request, state);
  }
  return picked;
}

}  // namespace balancing

std::optional<std::uint32_t> pick_weighted(std::span<const std::uint32_t> weights,
                                           std::uint64_t random) {
  std::uint64_t total = 0;
  for (const std::uint32_t weight : weights)
    total += weight;
  if (total == 0) return std::nullopt;
  std::uint64_t left = scale(high(random), total);
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    if (left < weights[i]) return i;
    left -= weights[i];
  }
  return std::nullopt;
}

void PeakEwma::observe(double sample_ns, std::int64_t now_ns) {
  const double passed = std::max<double>(static_cast<double>(now_ns - at), 0);
  at = now_ns;
  if (sample_ns > latency) {
    latency = sample_ns;
    return;
  }
  const double old = std::exp(-passed / kDecay);
  latency = latency * old + sample_ns * (1 - old);
}

double PeakEwma::cost(std::uint32_t active, std::int64_t now_ns) const {
  // Of an endpoint that nobody has heard of yet: one request finds out, the others wait for that.
  constexpr double kUnknown = 1e15;
  if (at == 0) return active == 0 ? 0 : kUnknown + active;
  const double passed = std::max<double>(static_cast<double>(now_ns - at), 0);
  return latency * std::exp(-passed / kDecay) * (active + 1.0);
}

}  // namespace sluice::policy
