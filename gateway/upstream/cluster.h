// An upstream at run time: its endpoints, and what is counted for all of them together.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/tls/client_context.h"
#include "gateway/upstream/endpoint.h"
#include "gateway/upstream/outlier_detector.h"
#include "gateway/upstream/retry_budget.h"
#include "gateway/upstream/sticky_cookies.h"
#include "policy/balancing_maglev.h"
#include "policy/config.h"

namespace sluice::gateway {

struct ClusterTotals {
  std::uint64_t no_endpoint = 0;       // nothing to pick from
  std::uint64_t panics = 0;            // picks among endpoints that are all out
  std::uint64_t connection_limit = 0;  // held back: circuit_breakers.connections
  std::uint64_t pending_limit = 0;     // refused: circuit_breakers.pending
  std::uint64_t request_limit = 0;     // refused: circuit_breakers.requests
  std::uint64_t retries = 0;
  std::uint64_t retries_refused = 0;  // no budget left
};

// Belongs to an upstream's name: survives changes of its configuration. Any thread.
class ClusterState {
 public:
  std::uint32_t active_requests() const { return retries_.active_requests(); }
  std::uint32_t open_connections() const {
    return open_connections_.load(std::memory_order_relaxed);
  }
  ClusterTotals totals() const;

  RetryBudget& retries() { return retries_; }
  const RetryBudget& retries() const { return retries_; }

  // Who may be picked has changed when this has; shared with the endpoints.
  const std::shared_ptr<ChangeCount>& changes() const { return changes_; }

  // Requests that wait for a connection.
  std::uint32_t pending() const { return pending_.load(std::memory_order_relaxed); }
  bool try_add_pending(std::uint32_t max);
  void remove_pending() { pending_.fetch_sub(1, std::memory_order_relaxed); }
  void count_request_limit() { request_limit_.fetch_add(1, std::memory_order_relaxed); }

  // A connection more; false when there are `max` already.
  bool try_add_connection(std::uint32_t max);
  void count_connection_limit() { connection_limit_.fetch_add(1, std::memory_order_relaxed); }
  void remove_connection() { open_connections_.fetch_sub(1, std::memory_order_relaxed); }

  void count_no_endpoint() { no_endpoint_.fetch_add(1, std::memory_order_relaxed); }
  void count_panic() { panics_.fetch_add(1, std::memory_order_relaxed); }

 private:
  alignas(kCacheLine) std::atomic<std::uint32_t> open_connections_{0};
  RetryBudget retries_;
  std::atomic<std::uint32_t> pending_{0};
  const std::shared_ptr<ChangeCount> changes_ = std::make_shared<ChangeCount>();
  alignas(kCacheLine) std::atomic<std::uint64_t> no_endpoint_{0};
  std::atomic<std::uint64_t> panics_{0};
  std::atomic<std::uint64_t> connection_limit_{0};
  std::atomic<std::uint64_t> pending_limit_{0};
  std::atomic<std::uint64_t> request_limit_{0};
};

// What an upstream consists of at the moment.
struct ClusterEndpoints {
  std::vector<std::shared_ptr<Endpoint>> list;
  bool resolving = false;  // names were not answered yet: more may come
};

// Immutable but for the atomics behind it. Kept alive by the ClusterSet that a request holds beside
// its snapshot.
class Cluster {
 public:
  Cluster(policy::Upstream config, ClusterEndpoints endpoints, std::shared_ptr<ClusterState> state,
          tls::ClientContextPtr tls = {});

  const policy::Upstream& config() const { return config_; }
  const std::string& name() const { return config_.name; }
  std::span<const std::shared_ptr<Endpoint>> endpoints() const {
    return endpoints_;
  }  // of addresses and of what names resolve to, each address once
  // DNS has not answered yet, and there is nothing to pick from.
  bool resolving() const { return resolving_; }
  std::uint64_t serial() const { return serial_; }  // no two clusters of this process have the same
  std::uint64_t fingerprint() const { return fingerprint_; }  // of config()
  // For lb_policy maglev: by priority.
  std::span<const policy::MaglevTable> maglev() const { return maglev_; }
  // For `sticky`; null without.
  const StickyCookies* sticky() const { return sticky_.get(); }
  ClusterState& state() const { return *state_; }
  const std::shared_ptr<ClusterState>& shared_state() const { return state_; }
  const tls::ClientContextPtr& tls() const { return tls_; }  // null: none
  const OutlierDetector& outliers() const { return outliers_; }

  bool uses_client_address() const {
    return config_.source_address == policy::SourceAddress::client;
  }

 private:
  policy::Upstream config_;
  std::uint64_t fingerprint_;
  std::uint64_t serial_;
  std::vector<std::shared_ptr<Endpoint>> endpoints_;
  bool resolving_;
  std::vector<policy::MaglevTable> maglev_;
  std::unique_ptr<const StickyCookies> sticky_;
  std::shared_ptr<ClusterState> state_;
  tls::ClientContextPtr tls_;
  OutlierDetector outliers_;
};

// The clusters of one policy, in the order of its upstreams. Immutable; hold it as long as the
// snapshot.
class ClusterSet {
 public:
  explicit ClusterSet(std::vector<std::shared_ptr<const Cluster>> clusters)
      : clusters_(std::move(clusters)) {}

  const Cluster& at(std::size_t index) const {
    return *clusters_[index];
  }  // index into Config::upstreams
  std::size_t size() const { return clusters_.size(); }
  const Cluster* find(std::string_view name) const;
  std::span<const std::shared_ptr<const Cluster>> clusters() const { return clusters_; }

 private:
  std::vector<std::shared_ptr<const Cluster>> clusters_;
};

// One try at an endpoint: counts as an active request while it lives. Belongs to its worker's
// thread.
class Attempt {
 public:
  Attempt() = default;
  // `index`: of the endpoint in cluster.endpoints(). Both must outlive it.
  Attempt(const Cluster& cluster, Endpoint& endpoint, std::uint32_t index = 0);
  Attempt(Attempt&& other) noexcept
      : cluster_(std::exchange(other.cluster_, nullptr)),
        endpoint_(std::exchange(other.endpoint_, nullptr)),
        index_(other.index_),
        express_(other.express_) {}
  Attempt& operator=(Attempt&& other) noexcept {
    std::swap(cluster_, other.cluster_);
    std::swap(endpoint_, other.endpoint_);
    std::swap(index_, other.index_);
    std::swap(express_, other.express_);
    return *this;
  }
  ~Attempt();  // without finish(): neutral

  explicit operator bool() const { return endpoint_ != nullptr; }
  const Cluster& cluster() const { return *cluster_; }
  Endpoint& endpoint() const { return *endpoint_; }
  std::uint32_t index() const { return index_; }  // 0 for original destinations

  // Before anything was asked of its endpoint: it is made at another one.
  void move(Endpoint& endpoint, std::uint32_t index);

  // Its connection is to be one that was offered to the express lane.
  void want_express(bool wanted) { express_ = wanted; }
  bool express() const { return express_; }

  // Ends it, once, and feeds outlier detection. True when that ejected the endpoint.
  bool finish(Outcome outcome, std::chrono::steady_clock::time_point now);

 private:
  const Cluster* cluster_ = nullptr;
  Endpoint* endpoint_ = nullptr;
  std::uint32_t index_ = 0;
  bool express_ = false;
};

}  // namespace sluice::gateway
