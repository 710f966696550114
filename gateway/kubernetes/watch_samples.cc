#include "gateway/kubernetes/watch_samples.h"

namespace sluice::gateway::kubernetes {

void add_watch_samples(const std::string& resource, const std::string& name,
                       const WatchCounts& counts, std::vector<MetricSample>& out) {
  const auto add = [&](std::string metric, std::string help, SampleType type, double value) {
    out.push_back({.name = std::move(metric),
                   .help = std::move(help),
                   .type = type,
                   .labels = {{"resource", resource}, {"name", name}},
                   .value = value});
  };
  add("sluice_kubernetes_watch_up",
      "1 while the Kubernetes API server answers; 0: what it said last holds.", SampleType::gauge,
      counts.up ? 1 : 0);
  add("sluice_kubernetes_lists_total", "Times that all was listed anew.", SampleType::counter,
      static_cast<double>(counts.lists));
  add("sluice_kubernetes_watches_total", "Watches that were begun, each where the last one ended.",
      SampleType::counter, static_cast<double>(counts.watches));
  add("sluice_kubernetes_failures_total",
      "Requests to the API server that failed, and watches that broke off.", SampleType::counter,
      static_cast<double>(counts.failures));
}

}  // namespace sluice::gateway::kubernetes
