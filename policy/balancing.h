// Picks an endpoint. Pure: the caller keeps the counts and brings the random number.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

// What a pick needs to know of an endpoint at this moment.
struct EndpointView {
  std::uint32_t weight = 1;  // 0: never picked
  std::uint32_t active = 0;  // requests (or connections) under way, as far as this worker knows
  bool available = true;     // healthy, not ejected, below its limits
};

// One per upstream and worker; plain data, not shared. Starts afresh when the number of endpoints
// changes.
struct BalancerState {
  std::vector<std::int64_t> current;  // smooth weighted round robin
};

struct PickRequest {
  LbPolicy policy = LbPolicy::round_robin;
  std::span<const EndpointView> endpoints;
  std::span<const std::uint32_t> tried;  // indices not to pick again (retries)
  std::uint64_t random = 0;              // uniform over all 64 bits; round robin ignores it
};

// An index into `endpoints`. When none is available at all, picks among all of them (panic: better
// a try than a sure failure). nullopt: everything that may be picked was tried already, or there is
// no endpoint.
//
// round_robin: smooth and weighted. random: by weight. least_request: two different endpoints drawn
// by weight, of which the one with fewer active requests per weight (Mitzenmacher, "The power of
// two choices").
std::optional<std::uint32_t> pick(const PickRequest& request, BalancerState& state);

// An index drawn by weight; nullopt if all weights are 0. For routes that split traffic.
std::optional<std::uint32_t> pick_weighted(std::span<const std::uint32_t> weights,
                                           std::uint64_t random);

}  // namespace sluice::policy
