// One worker's side of all upstreams: it picks endpoints and lends connections.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>

#include <boost/asio/io_context.hpp>

#include "gateway/timer_wheel.h"
#include "gateway/upstream/cluster.h"
#include "gateway/upstream/connection.h"
#include "gateway/upstream/wait_queue.h"
#include "policy/address.h"

namespace sluice::gateway {

class UpstreamWorkerState;

struct PickRequest {
  std::span<const Endpoint* const> exclude = {};  // tried already; left out while there is another
  bool only_others = false;                       // … and also where there is none
  // Where the client wanted to go; for clusters with original_destination.
  std::optional<policy::SocketAddress> original_destination = std::nullopt;
  std::uint64_t hash = 0;  // policy::balancing_hash() of what Maglev looks up
  std::optional<std::uint32_t> sticky = std::nullopt;  // by StickyCookies; taken if it is available
  // The name that it asked for there; connections for another name are others where there is TLS.
  std::string_view server_name = {};
};

enum class PickError : std::uint8_t {
  no_endpoints,             // the upstream has none, or only drained ones
  resolving,                // none yet: DNS has not answered; wait()
  request_limit,            // circuit_breakers.requests
  no_original_destination,  // the connection came in by `bind`: where it wanted to go is here
};

struct UpstreamWorkerOptions {
  std::uint32_t worker = 0;    // index; round robin starts elsewhere on each
  std::uint32_t own_mark = 0;  // SO_MARK of every upstream socket; 0: none
  std::size_t max_idle_per_endpoint = 1024;
  std::size_t max_client_pools = 4096;  // source_address: client; the least recently used go
  std::size_t max_original_destinations =
      4096;  // remembered; the least recently used, idle ones go
};

// What a failure to connect says about the endpoint.
constexpr Outcome outcome_of(ConnectError error) {
  if (!blames_endpoint(error)) return Outcome::neutral;
  return error == ConnectError::timed_out ? Outcome::connect_timeout : Outcome::connect_failure;
}

// The row of calls for a request: begin (phase pick), take_idle or connect (phase connect),
// give_back or close, Attempt::finish. The worker's thread only.
class UpstreamWorker {
 public:
  using Options = UpstreamWorkerOptions;

  UpstreamWorker(boost::asio::io_context& io, TimerWheel& wheel, Options options);
  ~UpstreamWorker();  // closes pooled connections; those in use may live on
  UpstreamWorker(const UpstreamWorker&) = delete;
  UpstreamWorker& operator=(const UpstreamWorker&) = delete;

  // A new policy: pooled connections to endpoints that it does not name are closed, those in use
  // when they come back.
  void adopt(std::shared_ptr<const ClusterSet> clusters);

  // Picks an endpoint, and counts it as busy until the Attempt ends. `cluster` must outlive the
  // Attempt (hold the ClusterSet).
  std::expected<Attempt, PickError> begin(const Cluster& cluster, const PickRequest& request);

  // A pooled connection, or null. `client`: the client's address, used when source_address is
  // client.
  UpstreamConnectionPtr take_idle(const Attempt& attempt, const policy::IpAddress& client);

  // A new one. Check its state(): in_use when it stands already (`handler` is not called then),
  // connecting when `handler` will hear of it; the handler must live until then, or call close()
  // first.
  std::expected<UpstreamConnectionPtr, ConnectFailure> connect(const Attempt& attempt,
                                                               const policy::IpAddress& client,
                                                               ConnectHandler& handler);

  // After ConnectError::connection_limit: the same `open()` at other endpoints, one after the
  // other, until one has a place; the attempt is then at that one. Who belongs to an endpoint
  // (sticky, maglev, original destinations) does not leave it.
  template <typename Open>
  std::invoke_result_t<Open&> open_elsewhere(Attempt& attempt, const PickRequest& request,
                                             Open open);

  // After ConnectError::connection_limit or PickError::resolving: takes a place in the upstream's
  // queue, for queue_timeout at most. False: there is no queue, or it is full (circuit_breakers
  // .pending). `waiter` must leave() when it got its connection.
  bool wait(const Cluster& cluster, Waiter& waiter);

  // The exchange is over and both sides may keep the connection: pools it, or closes it when it is
  // not wanted. Nothing of the last answer may be left unread.
  void give_back(UpstreamConnectionPtr connection);

  // Closes all pooled connections (drain).
  void close_idle();
  // The policy asks nobody for the express lane any more: what was offered to it is not kept.
  void leave_express();

  std::size_t idle() const;   // pooled connections
  std::size_t pools() const;  // pools with or without connections

 private:
  // False: there is no other than those left out by `request`, or it does not go elsewhere.
  bool move(Attempt& attempt, const PickRequest& request);

  RefPtr<UpstreamWorkerState> state_;
};

template <typename Open>
std::invoke_result_t<Open&> UpstreamWorker::open_elsewhere(Attempt& attempt,
                                                           const PickRequest& request, Open open) {
  std::array<const Endpoint*, 24>
      left_out;  // tries, and then 16 at least; the rest at the next look
  std::size_t count = std::min(request.exclude.size(), left_out.size());
  std::copy_n(request.exclude.begin(), count, left_out.begin());
  PickRequest others = request;
  std::invoke_result_t<Open&> opened =
      std::unexpected(ConnectFailure{.reason = ConnectError::connection_limit});
  while (!opened && opened.error().reason == ConnectError::connection_limit &&
         count < left_out.size()) {
    left_out[count++] = &attempt.endpoint();
    others.exclude = std::span(left_out.data(), count);
    others.only_others = true;
    if (!move(attempt, others)) break;
    opened = open();
  }
  return opened;
}

}  // namespace sluice::gateway
