// All that the gateway counts, and its page in Prometheus' text format.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/metrics_counters.h"
#include "gateway/metrics_samples.h"
#include "gateway/metrics_totals.h"

namespace sluice::gateway {

class MetricsPage;
struct MetricsState;

// The named things of one policy; the order is the caller's, and MetricSlots has the same.
struct MetricsLayout {
  struct Route {
    std::string name;
    std::uint32_t listener = 0;  // index into `listeners`
  };
  struct Upstream {
    std::string name;
    std::vector<std::string>
        endpoints;  // "10.0.0.1:80"; one "original_destination" where there are none
  };
  std::vector<std::string> listeners;
  std::vector<Route> routes;
  std::vector<Upstream> upstreams;
  std::vector<std::string> limits;
  std::vector<std::string> auths;
};

// Where workers count what happens under one policy. Keep it as long as anything may still count
// under it (with the snapshot): a slot is not used again before the last generation that names it
// is gone.
struct MetricSlots {
  std::vector<ListenerSlot> listeners;
  std::vector<RouteSlot> routes;
  std::vector<RouteSlot> default_routes;  // for each listener: requests that no route claimed
  std::vector<UpstreamSlot> upstreams;
  std::vector<std::vector<EndpointSlot>> endpoints;
  std::vector<LimitSlot> limits;
  std::vector<AuthSlot> auths;
};

struct MetricsOptions {
  std::uint32_t workers = 1;
  // Names of the reasons of WorkerMetrics::parse_error (at most kMaxReasons) and
  // upstream_connect_failed (at most kMaxConnectErrors).
  std::vector<std::string> parse_errors = {};
  std::vector<std::string> connect_errors = {};
};

// Control thread only, but worker(), whose result belongs to its worker.
class Metrics {
 public:
  explicit Metrics(MetricsOptions options);
  ~Metrics();

  WorkerMetrics& worker(std::uint32_t index);

  // The page shows this policy's objects from now on. What was there by the same name goes on
  // counting; the rest goes. Call before workers get the policy. Null when the policy has more than
  // 65,536 objects of a kind.
  std::shared_ptr<const MetricSlots> begin_generation(const MetricsLayout& layout);

  void reload_ended(bool successful);
  void set_policy_generation(const std::string& layer,
                             std::uint64_t generation);  // "gateway", "kernel"

  // Called for each page: what is known elsewhere and not counted by workers.
  void add_source(std::function<std::vector<MetricSample>()> source);
  void add_collector(std::function<void(MetricsPage&)> collector);

  std::string text() const;
  // The busiest first, at most `most`.
  std::vector<RouteTotals> routes(std::size_t most) const;

 private:
  std::unique_ptr<MetricsState> state_;
};

// This process: CPU time, memory, descriptors, start time, under Prometheus' usual `process_…`
// names.
std::vector<MetricSample> process_samples();

}  // namespace sluice::gateway
