// Picks an endpoint. Pure: the caller keeps the counts and brings the random number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "policy/balancing_candidates.h"
#include "policy/balancing_maglev.h"
#include "policy/config/upstreams.h"

namespace sluice::policy {

// One per upstream and worker; plain data, not shared.
struct BalancerState {
  std::uint64_t next = 0;      // round robin among equals
  std::uint64_t position = 0;  // … and by weight: below Level::turns
};

struct PickRequest {
  LbPolicy policy = LbPolicy::round_robin;
  std::span<const std::uint32_t> tried = {};  // endpoints not to pick again (retries)
  std::uint64_t random = 0;                   // uniform over all 64 bits
  std::uint64_t hash = 0;                     // maglev: balancing_hash() of what it looks up
  // maglev: by priority; empty or without an entry for a level: drawn by weight.
  std::span<const MaglevTable> tables = {};
};

namespace balancing {

// Two different candidates of one level, drawn by weight; the second is the first where there is
// only one.
std::optional<std::pair<std::uint32_t, std::uint32_t>> draw_two(const Candidates& candidates,
                                                                const PickRequest& request);
std::optional<std::uint32_t> pick_one(const Candidates& candidates, const PickRequest& request,
                                      BalancerState& state);

}  // namespace balancing

// An endpoint's index; nullopt: everything that may be picked was tried already, or there is
// nothing. Takes no memory.
//
// round_robin: in turns by weight, exact over each round of them and spread evenly within it; a
// binary search for each. random: by weight. maglev: by request.hash. least_request and
// peak_ewma: two different endpoints drawn by weight, of which the one with less load per weight
// (Mitzenmacher, "The power of two choices"); `load_of(index)`: active requests, or what
// peak_cost() says, as a double.
template <typename LoadOf>
std::optional<std::uint32_t> pick(const Candidates& candidates, const PickRequest& request,
                                  BalancerState& state, LoadOf load_of) {
  if (request.policy != LbPolicy::least_request && request.policy != LbPolicy::peak_ewma) {
    return balancing::pick_one(candidates, request, state);
  }
  const auto two = balancing::draw_two(candidates, request);
  if (!two || two->first == two->second) return two ? std::optional(two->first) : std::nullopt;
  const auto [a, b] = *two;
  // load(a) / weight(a) > load(b) / weight(b); a tie goes to the first, which was drawn by weight.
  const bool second_is_better = load_of(a) * static_cast<double>(candidates.weight(b)) >
                                load_of(b) * static_cast<double>(candidates.weight(a));
  return second_is_better ? b : a;
}

// An index drawn by weight; nullopt if all weights are 0. For routes that split traffic.
std::optional<std::uint32_t> pick_weighted(std::span<const std::uint32_t> weights,
                                           std::uint64_t random);

// Peak EWMA (Finagle's): a latency that rises at once and falls slowly.
struct PeakEwma {
  static constexpr double kDecay = 10e9;  // ns after which an old value weighs 1/e

  double latency = 0;   // ns; 0: nothing is known
  std::int64_t at = 0;  // ns, of the last observation

  void observe(double sample_ns, std::int64_t now_ns);
  // Expected wait of one more request beside `active` ones.
  double cost(std::uint32_t active, std::int64_t now_ns) const;
};

}  // namespace sluice::policy
