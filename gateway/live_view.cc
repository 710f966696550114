#include "gateway/live_view.h"

#include <chrono>

namespace sluice::gateway {

std::vector<policy::LiveGateway::EndpointState> LiveView::endpoints(std::uint32_t upstream) const {
  std::vector<EndpointState> states;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& endpoint : generation_.clusters->at(upstream).endpoints()) {
    const char* state = endpoint->drained()     ? "drained"
                        : endpoint->ejected(now) ? "ejected"
                        : !endpoint->healthy()   ? "unhealthy"
                                                 : "healthy";
    states.push_back({.name = endpoint->name(),
                      .state = state,
                      .weight = endpoint->weight(),
                      .active_requests = endpoint->active_requests(),
                      .available = endpoint->available(now) && endpoint->weight() > 0});
  }
  return states;
}

std::optional<policy::LiveGateway::LimitState> LiveView::limit(std::uint32_t limit,
                                                               const policy::RequestView& request,
                                                               std::uint64_t route_id,
                                                               std::uint32_t cost) const {
  const policy::LimitHandle& handle = generation_.limits[limit];
  if (handle.is_concurrency() || handle.is_cluster()) return std::nullopt;
  const auto now = static_cast<std::uint64_t>(
      std::chrono::steady_clock::now().time_since_epoch().count());
  const policy::LimitVerdict verdict = handle.peek(handle.keys(request, route_id), now, cost);
  const bool rejects = handle.limit().action == policy::LimitAction::reject;
  if (!verdict.allowed)
    return LimitState{!rejects, "none left, the next in " +
                                    std::to_string(verdict.retry_after_ns / 1'000'000) + " ms"};
  return LimitState{true, std::to_string(verdict.remaining) + " of " +
                              std::to_string(handle.limit().burst) + " left after this one"};
}

}  // namespace sluice::gateway
