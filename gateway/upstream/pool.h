// The connections of one worker to one endpoint (and for one client, where the upstream's source is
// the client). Inside of UpstreamWorker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/intrusive/list.hpp>

#include "gateway/refcounted.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/cluster.h"
#include "gateway/upstream/connection.h"
#include "gateway/upstream/handler_memory.h"
#include "gateway/upstream/wait_queue.h"
#include "policy/address.h"
#include "policy/balancing.h"

namespace sluice::gateway {

class EndpointPool;
class UpstreamWorkerState;

using IdleByEndpoint = boost::intrusive::list<
    UpstreamConnection,
    boost::intrusive::member_hook<UpstreamConnection, boost::intrusive::list_member_hook<>,
                                  &UpstreamConnection::pool_hook>>;
using IdleByAge = boost::intrusive::list<
    UpstreamConnection,
    boost::intrusive::member_hook<UpstreamConnection, boost::intrusive::list_member_hook<>,
                                  &UpstreamConnection::age_hook>>;

// One worker's view of one cluster. Kept as long as a pool needs it.
class ClusterLocal : public RefCounted<ClusterLocal> {
 public:
  ClusterLocal(std::shared_ptr<ClusterState> shared, UpstreamWorkerState& worker);

  // The bounds of the newest policy that was seen hold for all, so that one that widens them helps
  // who waits already.
  void follow(const Cluster& cluster);
  const policy::CircuitBreakers& limits() const { return limits_; }

  // Who may be picked, as of now. Looks at the endpoints only when something has changed.
  const policy::Candidates& candidates(const Cluster& cluster, SteadyTime now);

  const std::shared_ptr<ClusterState> shared;
  policy::BalancerState balancer;
  std::uint32_t
      skip;        // picks to pass over at the start, so that workers begin at different endpoints
  IdleByAge idle;  // oldest first: those in pools, and those at rest

  static constexpr std::chrono::milliseconds kLook{10};
  static constexpr std::chrono::milliseconds kLookForOthers{50};
  static constexpr std::uint32_t kAllPlaces = 1'000'000;
  static constexpr std::uint32_t kPassed = 16;
  static constexpr std::uint32_t kPatience = 5;  // looks
  WaitQueue waiting;  // for a place below circuit_breakers, first come first served
  WheelTimer look = WheelTimer::calling<&ClusterLocal::on_look>(this);  // armed while any waits
  // Places were given back: as many as that of those that wait try again, soon.
  void wake(std::uint32_t places = 1);
  // Requests of other workers wait, and none here.
  bool others_wait() const { return waiting.empty() && shared->pending() > 0; }
  // They have waited for long, beside some here, and this worker has more than its share of the
  // places: the next one that is given back is theirs.
  bool owes_place() const { return looks_in_debt_ >= kPatience; }
  // Whether a bound holds this pool back.
  bool full(const EndpointPool& pool, std::uint32_t more = 0) const;
  // The last place that is free is left to those that wait elsewhere, for some looks of theirs.
  bool leaves_last_place(const EndpointPool& pool) const;
  void place_taken() { ++places_; }
  void place_given_back(bool was_scarce);
  // A connection was kept although the bounds are reached: others may come to want its place.
  void kept_idle(const EndpointPool& pool);

 private:
  void on_look();
  void give_way();
  bool more_than_share(std::size_t own_waiting) const;
  void call_waiting();
  void build(const Cluster& cluster, SteadyTime now);

  UpstreamWorkerState& worker_;  // outlives what it has lent
  friend class UpstreamWorkerState;
  WaitQueue again_;              // called, and still waiting: the queue's first, in order
  std::uint32_t wakes_ = 0;      // places that were given back since the waiting were last called
  HandlerMemory wake_memory_;
  std::uint32_t places_ = 0;  // connections of this worker
  std::uint32_t looks_in_debt_ = 0;
  SteadyTime left_to_others_{};  // until when
  policy::CircuitBreakers limits_;
  std::uint64_t limits_of_ = 0;  // Cluster::serial()
  policy::Candidates candidates_;
  std::vector<policy::EndpointView> views_;  // scratch
  std::uint64_t built_for_ = 0;              // Cluster::serial()
  std::uint64_t built_at_ = 0;               // ChangeCount
  SteadyTime build_again_{};                 // an ejection ends, slow start goes on
};

struct PoolKey {
  const Endpoint* endpoint = nullptr;
  policy::IpAddress client;  // :: where the source is the gateway
  bool express = false;      // its connections are offered to the express lane
  bool operator==(const PoolKey&) const = default;
};
std::size_t hash_value(const PoolKey& key);

class EndpointPool : public RefCounted<EndpointPool> {
 public:
  // `transient`: goes with its last connection (clients and original destinations come and go).
  EndpointPool(UpstreamWorkerState& worker, PoolKey key, std::shared_ptr<Endpoint> endpoint,
               RefPtr<ClusterLocal> cluster, bool transient);
  ~EndpointPool();

  // The most recently used one (its congestion window is the widest), or null. Those that were made
  // with other TLS than `cluster` wants now are closed.
  UpstreamConnectionPtr take(const Cluster& cluster);
  std::expected<UpstreamConnectionPtr, ConnectFailure> connect(const Cluster& cluster,
                                                               ConnectHandler& handler);
  void give_back(UpstreamConnectionPtr connection);
  void close_idle();

  Endpoint& endpoint() const { return *endpoint_; }
  const PoolKey& key() const { return key_; }
  const RefPtr<UpstreamWorkerState>& worker() const { return worker_; }
  bool transient() const { return transient_; }
  const ClusterLocal& cluster() const { return *cluster_; }
  // A connection that many requests share has room for another one.
  void place_freed() { cluster_->wake(); }
  std::size_t idle() const { return idle_.size(); }
  // It would be, with so many connections more.
  bool endpoint_is_full(std::uint32_t more = 0) const {
    const std::uint32_t most = cluster_->limits().endpoint_connections;
    return most != 0 && endpoint_->open_connections() + more >= most;
  }
  void set_idle_timeout(std::chrono::nanoseconds timeout) { idle_timeout_ = timeout; }
  // No longer in the worker's table: connections that come back are closed.
  void retire();
  bool retired() const { return retired_; }

  // For connections.
  // What was agreed with the endpoint under `context`, for the next handshake.
  RefPtr<tls::SessionSlot> tls_sessions(const tls::ClientContextPtr& context);
  void count_established();
  void keep_idle(UpstreamConnection& connection);
  void leave_idle(UpstreamConnection& connection);
  void release_place();

  boost::intrusive::list_member_hook<> age_hook;  // of transient pools

 private:
  bool take_place();
  bool take_place_at_endpoint();
  void close_at_rest();

  RefPtr<UpstreamWorkerState> worker_;
  const PoolKey key_;
  const std::shared_ptr<Endpoint> endpoint_;
  const RefPtr<ClusterLocal> cluster_;
  IdleByEndpoint idle_;  // most recently used last
  std::chrono::nanoseconds idle_timeout_{};
  RefPtr<tls::SessionSlot> tls_sessions_;
  tls::ClientContextPtr tls_sessions_of_;
  std::uint32_t connections_ = 0;
  const bool transient_;
  bool retired_ = false;
};

}  // namespace sluice::gateway
