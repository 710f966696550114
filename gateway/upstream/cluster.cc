#include "gateway/upstream/cluster.h"

#include <algorithm>
#include <atomic>

#include "gateway/log.h"
#include "policy/snapshot.h"

namespace sluice::gateway {

ClusterTotals ClusterState::totals() const {
  return {
      .no_endpoint = no_endpoint_.load(std::memory_order_relaxed),
      .panics = panics_.load(std::memory_order_relaxed),
      .connection_limit = connection_limit_.load(std::memory_order_relaxed),
      .pending_limit = pending_limit_.load(std::memory_order_relaxed),
      .request_limit = request_limit_.load(std::memory_order_relaxed),
      .retries = retries_.retries(),
      .retries_refused = retries_.refused(),
  };
}

bool ClusterState::try_add_connection(std::uint32_t max) {
  if (open_connections_.fetch_add(1, std::memory_order_relaxed) < max) return true;
  open_connections_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

bool ClusterState::try_add_pending(std::uint32_t max) {
  if (pending_.fetch_add(1, std::memory_order_relaxed) < max) return true;
  pending_.fetch_sub(1, std::memory_order_relaxed);
  pending_limit_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

namespace {

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

std::vector<policy::MaglevTable> maglev_tables(
    const policy::Upstream& config, std::span<const std::shared_ptr<Endpoint>> endpoints) {
  std::vector<policy::MaglevTable> tables;
  if (config.lb_policy != policy::LbPolicy::maglev) return tables;
  std::uint32_t last = 0;
  for (const auto& endpoint : endpoints)
    last = std::max(last, endpoint->priority());
  for (std::uint32_t priority = 0; priority <= last; ++priority) {
    std::vector<policy::MaglevTable::Entry> entries;
    for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
      const Endpoint& endpoint = *endpoints[i];
      if (endpoint.priority() == priority)
        entries.push_back({endpoint.name(), endpoint.weight(), i});
    }
    tables.emplace_back(entries);
  }
  return tables;
}

std::unique_ptr<const StickyCookies> sticky_cookies(
    const policy::Upstream& config, std::span<const std::shared_ptr<Endpoint>> endpoints) {
  if (!config.sticky) return nullptr;
  std::vector<std::string_view> names;
  for (const auto& endpoint : endpoints)
    names.push_back(endpoint->name());
  return std::make_unique<const StickyCookies>(*config.sticky, config.name, names);
}

}  // namespace

Cluster::Cluster(policy::Upstream config, ClusterEndpoints endpoints,
                 std::shared_ptr<ClusterState> state, tls::ClientContextPtr tls)
    : config_(std::move(config)),
      fingerprint_(policy::fingerprint(config_)),
      serial_(next_serial()),
      endpoints_(std::move(endpoints.list)),
      resolving_(endpoints.resolving && endpoints_.empty()),
      maglev_(maglev_tables(config_, endpoints_)),
      sticky_(sticky_cookies(config_, endpoints_)),
      state_(std::move(state)),
      tls_(std::move(tls)),
      outliers_(config_.outlier_detection) {}

const Cluster* ClusterSet::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(clusters_, [&](const auto& cluster) { return cluster->name() == name; });
  return found == clusters_.end() ? nullptr : found->get();
}

Attempt::Attempt(const Cluster& cluster, Endpoint& endpoint, std::uint32_t index)
    : cluster_(&cluster), endpoint_(&endpoint), index_(index) {
  cluster.state().retries().request_begun();
  endpoint.active_requests_.fetch_add(1, std::memory_order_relaxed);
  endpoint.requests_.fetch_add(1, std::memory_order_relaxed);
}

void Attempt::move(Endpoint& endpoint, std::uint32_t index) {
  endpoint_->active_requests_.fetch_sub(1, std::memory_order_relaxed);
  endpoint_->requests_.fetch_sub(1, std::memory_order_relaxed);
  endpoint.active_requests_.fetch_add(1, std::memory_order_relaxed);
  endpoint.requests_.fetch_add(1, std::memory_order_relaxed);
  endpoint_ = &endpoint;
  index_ = index;
}

Attempt::~Attempt() {
  if (endpoint_) finish(Outcome::neutral, {});
}

bool Attempt::finish(Outcome outcome, std::chrono::steady_clock::time_point now) {
  Endpoint& endpoint = *std::exchange(endpoint_, nullptr);
  endpoint.active_requests_.fetch_sub(1, std::memory_order_relaxed);
  endpoint.outcomes_[static_cast<std::size_t>(outcome)].fetch_add(1, std::memory_order_relaxed);
  cluster_->state().retries().request_ended();
  const bool ejected = cluster_->outliers().report(endpoint, cluster_->endpoints(), outcome, now);
  if (ejected) {
    log_info("health", "endpoint is ejected for failures in a row",
             {{"upstream", cluster_->name()}, {"endpoint", endpoint.address().to_string()}});
  }
  return ejected;
}

}  // namespace sluice::gateway
