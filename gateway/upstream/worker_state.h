// What one worker remembers of its upstreams: pools, balancing, original destinations. Inside of
// UpstreamWorker; its connections keep it alive.
#pragma once

#include <cstdint>
#include <expected>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/unordered/unordered_flat_map.hpp>

#include "gateway/upstream/pool.h"
#include "gateway/upstream/upstream_worker.h"

namespace sluice::gateway {

class UpstreamWorkerState : public RefCounted<UpstreamWorkerState> {
 public:
  UpstreamWorkerState(boost::asio::io_context& io, TimerWheel& wheel,
                      UpstreamWorkerOptions options);
  ~UpstreamWorkerState();

  void adopt(std::shared_ptr<const ClusterSet> clusters);
  std::expected<Attempt, PickError> begin(const Cluster& cluster, const PickRequest& request);
  bool move(Attempt& attempt, const PickRequest& request);
  EndpointPool* find_pool(const Attempt& attempt, const policy::IpAddress& client);  // or null
  RefPtr<EndpointPool> find_or_make_pool(const Attempt& attempt, const policy::IpAddress& client);
  bool wait(const Cluster& cluster, Waiter& waiter);
  void close_idle();
  void leave_express();
  void shut_down();  // closes what is idle; no pools, no recycling any more

  // From pools and connections.
  void pool_is_empty(EndpointPool& pool);
  RefPtr<UpstreamConnection> make_connection();
  void take_back(std::unique_ptr<UpstreamConnection> connection);

  const UpstreamWorkerOptions& options() const { return options_; }
  boost::asio::io_context& io() { return io_; }
  TimerWheel& wheel() { return wheel_; }
  std::size_t idle() const;
  std::size_t pools() const { return pools_.size(); }

 private:
  using PoolsByAge = boost::intrusive::list<
      EndpointPool,
      boost::intrusive::member_hook<EndpointPool, boost::intrusive::list_member_hook<>,
                                    &EndpointPool::age_hook>>;
  struct DestinationKey {
    const ClusterState* cluster = nullptr;
    policy::SocketAddress address;
    std::string name;  // where there is TLS
    bool operator==(const DestinationKey&) const = default;
  };
  friend std::size_t hash_value(const DestinationKey& key);

  RefPtr<ClusterLocal> local(const Cluster& cluster);
  std::optional<std::uint32_t> pick(const Cluster& cluster, const PickRequest& request);
  Endpoint& original_destination(const Cluster& cluster, const PickRequest& request);
  void forget_idle_destination();
  void remove(EndpointPool& pool);
  std::vector<RefPtr<EndpointPool>> all_pools() const;
  std::uint64_t random();

  boost::asio::io_context& io_;
  TimerWheel& wheel_;
  const UpstreamWorkerOptions options_;
  bool open_ = true;  // until shut_down()
  std::shared_ptr<const ClusterSet> clusters_;
  boost::unordered_flat_map<const ClusterState*, RefPtr<ClusterLocal>> locals_;
  boost::unordered_flat_map<PoolKey, RefPtr<EndpointPool>> pools_;
  PoolsByAge transient_pools_;  // least recently used first
  std::list<std::pair<DestinationKey, std::shared_ptr<Endpoint>>>
      destinations_;  // least recently used first
  boost::unordered_flat_map<DestinationKey, decltype(destinations_)::iterator> destination_index_;
  std::vector<std::unique_ptr<UpstreamConnection>> spare_;
  std::vector<std::uint32_t> tried_;  // scratch of pick()
  std::uint64_t random_state_;
};

}  // namespace sluice::gateway
