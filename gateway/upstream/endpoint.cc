#include "gateway/upstream/endpoint.h"

namespace sluice::gateway {

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
