#include "policy/balancing.h"

#include <algorithm>

namespace sluice::policy {
namespace {

bool usable(const EndpointView& endpoint, bool panic) { return !endpoint.excluded && (panic || endpoint.available); }

}  // namespace

std::size_t Balancer::pick(std::span<const EndpointView> endpoints, std::uint64_t random) {
  const bool panic = std::ranges::none_of(endpoints, [](const auto& e) { return usable(e, false); });
  if (panic && std::ranges::none_of(endpoints, [](const auto& e) { return usable(e, true); })) return kNone;
  switch (policy_) {
    case LbPolicy::round_robin:
      return round_robin(endpoints, panic);
    case LbPolicy::least_request:
      return least_request(endpoints, random, panic);
    case LbPolicy::random:
      return by_weight(endpoints, random, panic);
  }
  return kNone;
}

// Smooth weighted round robin (as nginx does it): everyone gains its weight, the richest is picked and pays the sum.
std::size_t Balancer::round_robin(std::span<const EndpointView> endpoints, bool panic) {
  if (current_.size() != endpoints.size()) {
    current_.assign(endpoints.size(), 0);
    if (!endpoints.empty()) current_[offset_ % endpoints.size()] = 1;
  }
  std::int64_t sum = 0;
  std::size_t best = kNone;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (!usable(endpoints[i], panic)) continue;
    const std::int64_t weight = std::max<std::int64_t>(endpoints[i].weight, 1);
    current_[i] += weight;
    sum += weight;
    if (best == kNone || current_[i] > current_[best]) best = i;
  }
  if (best != kNone) current_[best] -= sum;
  return best;
}

std::size_t Balancer::by_weight(std::span<const EndpointView> endpoints, std::uint64_t random, bool panic,
                                std::size_t skip) const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (i != skip && usable(endpoints[i], panic)) total += std::max(endpoints[i].weight, 1U);
  }
  if (total == 0) return kNone;
  std::uint64_t left = random % total;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (i == skip || !usable(endpoints[i], panic)) continue;
    const std::uint64_t weight = std::max(endpoints[i].weight, 1U);
    if (left < weight) return i;
    left -= weight;
  }
  return kNone;
}

// The power of two choices: two by weight, then the one with fewer requests per weight.
std::size_t Balancer::least_request(std::span<const EndpointView> endpoints, std::uint64_t random, bool panic) const {
  const std::size_t first = by_weight(endpoints, random & 0xffffffff, panic);
  const std::size_t second = by_weight(endpoints, random >> 32, panic, first);
  if (second == kNone) return first;
  const auto load = [&](std::size_t i) {
    return std::uint64_t{endpoints[i].active + 1} * 1000 / std::max(endpoints[i].weight, 1U);
  };
  return load(second) < load(first) ? second : first;
}

}  // namespace sluice::policy
