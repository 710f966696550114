// Inside of Metrics: the workers' counters, and which of them belongs to which named object.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <prometheus/metric_family.h>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/metrics.h"
#include "gateway/metrics_page.h"
#include "gateway/metrics_slots.h"

namespace sluice::gateway {

template <typename Counters>
class CounterSum;
using EndpointSum = CounterSum<EndpointCounters>;
using ListenerSum = CounterSum<ListenerCounters>;

// Control thread.
struct MetricsState {
  explicit MetricsState(MetricsOptions given);

  // The whole page (metrics_collect.cc).
  std::vector<prometheus::MetricFamily> collect() const;

  std::array<SlotDirectory*, 6> directories();
  MetricSlots take_slots(const MetricsLayout& layout);
  bool reserve();  // room for every slot; false: too many
  void abandon();
  void free_unused();

  MetricsOptions options;
  std::vector<std::unique_ptr<WorkerMetrics>> workers;
  SlotDirectory listeners, routes, upstreams, endpoints, limits, auths;
  // Generations that may still be written under, oldest first.
  std::vector<std::pair<std::uint64_t, std::weak_ptr<const MetricSlots>>> generations;
  std::vector<std::function<std::vector<MetricSample>()>> sources;
  std::vector<std::function<void(MetricsPage&)>> collectors;
  std::map<std::string, std::uint64_t> policy_generations;
  std::uint64_t reloads_done = 0;
  std::uint64_t reloads_refused = 0;
  bool last_reload_successful = true;
  double last_reload_time = 0;

 private:
  std::uint64_t oldest_alive();
  void collect_global(MetricsPage& page) const;
  void collect_listeners(MetricsPage& page) const;
  static void collect_tls(MetricsPage& page, std::string_view listener, const ListenerSum& sum);
  void collect_routes(MetricsPage& page) const;
  void collect_upstreams(MetricsPage& page) const;
  void collect_endpoints(MetricsPage& page) const;
  void collect_endpoint_outcomes(MetricsPage& page, std::string_view upstream,
                                 std::string_view endpoint, const EndpointSum& sum) const;
  static void collect_endpoint_totals(MetricsPage& page, std::string_view upstream,
                                      std::string_view endpoint, const EndpointSum& sum);
  void collect_limits(MetricsPage& page) const;
  void collect_auths(MetricsPage& page) const;
};

}  // namespace sluice::gateway
