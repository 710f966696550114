#include "policy/balancing.h"

#include <algorithm>
#include <ranges>

namespace sluice::policy {

namespace {

// Who may be picked: not tried, of some weight, and available unless nobody is.
class Candidates {
 public:
  explicit Candidates(const PickRequest& request) : request_(request) {
    panic_ = std::ranges::none_of(request.endpoints, [](const EndpointView& endpoint) {
      return endpoint.available && endpoint.weight > 0;
    });
  }

  bool contains(std::uint32_t index) const {
    const EndpointView& endpoint = request_.endpoints[index];
    return endpoint.weight > 0 && (endpoint.available || panic_) &&
           std::ranges::find(request_.tried, index) == request_.tried.end();
  }

  // 0 for those who may not be picked, and for `without`.
  std::uint64_t weight(std::uint32_t index, std::optional<std::uint32_t> without) const {
    return index == without || !contains(index) ? 0 : request_.endpoints[index].weight;
  }

 private:
  const PickRequest& request_;
  bool panic_ = false;
};

// Maps 32 random bits onto [0, total) by multiplication: no division, bias below total / 2^32.
std::uint64_t scale(std::uint32_t random, std::uint64_t total) {
  return random * total >> 32;
}

template <typename WeightOf>
std::optional<std::uint32_t> draw(std::uint32_t count, WeightOf weight_of, std::uint32_t random) {
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < count; ++i)
    total += weight_of(i);
  if (total == 0) return std::nullopt;
  std::uint64_t left = scale(random, total);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t weight = weight_of(i);
    if (left < weight) return i;
    left -= weight;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> draw_candidate(const PickRequest& request,
                                            const Candidates& candidates,
                                            std::optional<std::uint32_t> without,
                                            std::uint32_t random) {
  return draw(
      static_cast<std::uint32_t>(request.endpoints.size()),
      [&](std::uint32_t i) { return candidates.weight(i, without); }, random);
}

// nginx's and LVS' smooth form: everybody gains its weight, the richest is picked and pays the sum.
std::optional<std::uint32_t> pick_round_robin(const PickRequest& request,
                                              const Candidates& candidates, BalancerState& state) {
  if (state.current.size() != request.endpoints.size()) {
    state.current.assign(request.endpoints.size(), 0);
  }
  std::optional<std::uint32_t> best;
  std::int64_t total = 0;
  for (std::uint32_t i = 0; i < request.endpoints.size(); ++i) {
    if (!candidates.contains(i)) continue;
    const std::int64_t weight = request.endpoints[i].weight;
    state.current[i] += weight;
    total += weight;
    if (!best || state.current[i] > state.current[*best]) best = i;
  }
  if (best) state.current[*best] -= total;
  return best;
}

std::optional<std::uint32_t> pick_least_request(const PickRequest& request,
                                                const Candidates& candidates) {
  const auto low = static_cast<std::uint32_t>(request.random);
  const auto high = static_cast<std::uint32_t>(request.random >> 32);
  const auto first = draw_candidate(request, candidates, std::nullopt, high);
  if (!first) return std::nullopt;
  const auto second = draw_candidate(request, candidates, first, low);
  if (!second) return first;
  const EndpointView& a = request.endpoints[*first];
  const EndpointView& b = request.endpoints[*second];
  // a.active / a.weight > b.active / b.weight; a tie goes to the first, which was drawn by weight.
  const bool second_is_idler =
      std::uint64_t{a.active} * b.weight > std::uint64_t{b.active} * a.weight;
  return second_is_idler ? second : first;
}

}  // namespace

std::optional<std::uint32_t> pick(const PickRequest& request, BalancerState& state) {
  const Candidates candidates(request);
  switch (request.policy) {
    case LbPolicy::round_robin:
      return pick_round_robin(request, candidates, state);
    case LbPolicy::least_request:
      return pick_least_request(request, candidates);
    case LbPolicy::random:
      return draw_candidate(request, candidates, std::nullopt,
                            static_cast<std::uint32_t>(request.random >> 32));
  }
  return std::nullopt;
}

std::optional<std::uint32_t> pick_weighted(std::span<const std::uint32_t> weights,
                                           std::uint64_t random) {
  return draw(
      static_cast<std::uint32_t>(weights.size()), [&](std::uint32_t i) { return weights[i]; },
      static_cast<std::uint32_t>(random >> 32));
}

}  // namespace sluice::policy
