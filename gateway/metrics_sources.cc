#include "gateway/metrics_sources.h"

#include <array>
#include <chrono>
#include <string_view>

#include "gateway/access_log.h"
#include "gateway/metrics_page.h"
#include "gateway/upstream/cluster.h"

namespace sluice::gateway {

namespace {

constexpr std::string_view kOriginalDestination = "original_destination";
constexpr std::array<std::string_view, 4> kStates{"healthy", "unhealthy", "ejected", "drained"};

// The strongest reason for not using it first.
std::string_view state_of(const Endpoint& endpoint, std::chrono::steady_clock::time_point now) {
  if (endpoint.drained()) return "drained";
  if (!endpoint.healthy()) return "unhealthy";
  return endpoint.ejected(now) ? "ejected" : "healthy";
}

}  // namespace

void collect_clusters(const ClusterSet& clusters, MetricsPage& page) {
  const auto now = std::chrono::steady_clock::now();
  for (const auto& cluster : clusters.clusters()) {
    page.counter(metric::kPanics, {cluster->name()}, cluster->state().totals().panics);
    for (const auto& endpoint : cluster->endpoints()) {
      page.gauge(metric::kUpstreamConnectionsActive, {cluster->name(), endpoint->name()},
                 endpoint->open_connections());
      // Its own count: some are ejected by the clock, and not by a request's outcome.
      page.counter(metric::kEjections, {cluster->name(), endpoint->name()},
                   endpoint->totals().ejections);
      const std::string_view current = state_of(*endpoint, now);
      for (const std::string_view state : kStates)
        page.gauge(metric::kEndpointState, {cluster->name(), endpoint->name(), state},
                   state == current ? 1 : 0);
    }
    if (cluster->endpoints().empty())  // one series for all places that clients wanted to go to
      page.gauge(metric::kUpstreamConnectionsActive, {cluster->name(), kOriginalDestination},
                 cluster->state().open_connections());
  }
}

void collect_access_log(const AccessLog& log, MetricsPage& page) {
  page.counter(metric::kAccessLogLines, {}, log.written());
  page.counter(metric::kAccessLogDropped, {}, log.dropped());
}

}  // namespace sluice::gateway
