#include "gateway/upstream/endpoint.h"

#include "policy/balancing.h"

namespace sluice::gateway {

void Endpoint::set_healthy(bool healthy, std::chrono::steady_clock::time_point now) {
  if (healthy && !this->healthy()) came(now);
  change(healthy_, healthy);
}

void Endpoint::observe_latency(std::chrono::nanoseconds latency,
                               std::chrono::steady_clock::time_point now) {
  policy::PeakEwma known{latency_.load(std::memory_order_relaxed),
                         latency_at_.load(std::memory_order_relaxed)};
  known.observe(static_cast<double>(latency.count()), now.time_since_epoch().count());
  latency_.store(known.latency, std::memory_order_relaxed);
  latency_at_.store(known.at, std::memory_order_relaxed);
}

double Endpoint::peak_cost(std::chrono::steady_clock::time_point now) const {
  const policy::PeakEwma known{latency_.load(std::memory_order_relaxed),
                               latency_at_.load(std::memory_order_relaxed)};
  return known.cost(active_requests(), now.time_since_epoch().count());
}

EndpointTotals Endpoint::totals() const {
  EndpointTotals totals;
  totals.requests = requests_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < kOutcomes; ++i)
    totals.outcomes[i] = outcomes_[i].load(std::memory_order_relaxed);
  totals.connections = connections_.load(std::memory_order_relaxed);
  totals.reused = reused_.load(std::memory_order_relaxed);
  totals.ejections = ejections_.load(std::memory_order_relaxed);
  totals.health_changes = health_changes_.load(std::memory_order_relaxed);
  return totals;
}

}  // namespace sluice::gateway
