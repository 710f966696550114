#include "gateway/upstream/cluster.h"

#include <algorithm>

namespace sluice::gateway {

ClusterTotals ClusterState::totals() const {
  return {
      .no_endpoint = no_endpoint_.load(std::memory_order_relaxed),
      .panics = panics_.load(std::memory_order_relaxed),
      .connection_limit = connection_limit_.load(std::memory_order_relaxed),
      .retries = retries_.retries(),
      .retries_refused = retries_.refused(),
  };
}

bool ClusterState::try_add_connection(std::uint32_t max) {
  if (open_connections_.fetch_add(1, std::memory_order_relaxed) < max) return true;
  open_connections_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

Cluster::Cluster(policy::Upstream config, std::vector<std::shared_ptr<Endpoint>> endpoints,
                 std::shared_ptr<ClusterState> state)
    : config_(std::move(config)),
      endpoints_(std::move(endpoints)),
      state_(std::move(state)),
      outliers_(config_.outlier_detection) {}

const Cluster* ClusterSet::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(clusters_, [&](const auto& cluster) { return cluster->name() == name; });
  return found == clusters_.end() ? nullptr : found->get();
}

Attempt::Attempt(const Cluster& cluster, Endpoint& endpoint)
    : cluster_(&cluster), endpoint_(&endpoint) {
  cluster.state().retries().request_begun();
  endpoint.active_requests_.fetch_add(1, std::memory_order_relaxed);
  endpoint.requests_.fetch_add(1, std::memory_order_relaxed);
}

Attempt::~Attempt() {
  if (endpoint_) finish(Outcome::neutral, {});
}

bool Attempt::finish(Outcome outcome, std::chrono::steady_clock::time_point now) {
  Endpoint& endpoint = *std::exchange(endpoint_, nullptr);
  endpoint.active_requests_.fetch_sub(1, std::memory_order_relaxed);
  endpoint.outcomes_[static_cast<std::size_t>(outcome)].fetch_add(1, std::memory_order_relaxed);
  cluster_->state().retries().request_ended();
  return cluster_->outliers().report(endpoint, cluster_->endpoints(), outcome, now);
}

}  // namespace sluice::gateway
