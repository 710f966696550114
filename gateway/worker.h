// One thread, one io_context, and all that its connections need; nothing is shared while requests
// run.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "gateway/accept_balance.h"
#include "gateway/access_log.h"
#include "gateway/authority_names.h"
#include "gateway/buffer.h"
#include "gateway/compression/compressor.h"
#include "gateway/gateway.h"
#include "gateway/http/mirrors.h"
#include "gateway/http/upstream_streams.h"
#include "gateway/l4_relay.h"
#include "gateway/listener.h"
#include "gateway/metrics_counters.h"
#include "gateway/overload.h"
#include "gateway/recycler.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"
#include "gateway/tls/failure.h"
#include "gateway/tracing/span_exporter.h"
#include "gateway/upstream/upstream_worker.h"
#include "gateway/worker_config.h"
#include "policy/bans.h"
#include "policy/bans_diverted.h"

namespace sluice::gateway {

class LimitLeases;

namespace auth {
class JwtMemory;
class KeyFetcher;
}  // namespace auth
namespace http1 {
class ClientStream;
class Connection;
class UpstreamStream;
}  // namespace http1
namespace http2 {
class ClientStream;
class UpstreamPool;
class UpstreamStream;
enum class Abuse : std::uint8_t;
}  // namespace http2

// What a worker is given; all of it outlives the worker.
struct WorkerSetup {
  std::uint32_t index = 0;
  std::uint32_t own_mark = 0;
  WorkerMetrics* metrics = nullptr;
  AccessLog* access_log = nullptr;
  policy::BanTracker* bans = nullptr;
  policy::DivertedSources* diverted = nullptr;
  LimitLeases* leases = nullptr;
  OverloadGuard* overload = nullptr;
  NameResolver* names = nullptr;
  AcceptBalance* balance = nullptr;
  std::function<void(BanRequest)> request_ban;                               // any thread
  std::function<std::shared_ptr<ListenerLoad>(const std::string&)> load_of;  // any thread
};

class Worker {
 public:
  explicit Worker(WorkerSetup setup);
  ~Worker();  // closes every connection and joins the thread
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // --- any thread ---
  // Calls `done` on the worker's thread when the policy is in force here.
  void apply(std::shared_ptr<const PolicyGeneration> generation,
             std::vector<ListenerSocket> sockets, std::function<void()> done);
  // The same policy, on other clusters.
  void update(std::shared_ptr<const PolicyGeneration> generation);
  // New certificates for the policy in force.
  void apply_tls(std::shared_ptr<const PolicyGeneration> generation, std::function<void()> done);
  // Calls `done` on the worker's thread when the last connection has ended.
  void drain(std::function<void()> done);
  // Of its connections those that were caught and have one of these cookies, sorted; what is open of
  // them at `deadline` is ended.
  void drain_connections(std::shared_ptr<const std::vector<std::uint64_t>> cookies,
                         std::chrono::milliseconds deadline);
  void abort_all();
  std::uint32_t open_connections() const { return sessions_open_.load(std::memory_order_relaxed); }

  // --- the worker's thread ---
  boost::asio::io_context& io() { return io_; }
  TimerWheel& wheel() { return wheel_; }
  UpstreamWorker& upstreams() { return *upstreams_; }
  RelayWorker& relays() { return relays_; }
  BufferPool& buffers() { return buffers_; }
  HeadRoomPool& head_rooms() { return head_rooms_; }
  AuthorityNames& authority_names() { return authority_names_; }
  WorkerMetrics& metrics() { return *setup_.metrics; }
  OverloadGuard& overload() { return *setup_.overload; }
  AccessLog& access_log() { return *setup_.access_log; }
  AccessRing& access_ring() { return ring_; }
  const RefPtr<WorkerConfig>& config() const { return config_; }
  Recycler<http1::Connection>& connections() { return connections_; }
  Recycler<http1::ClientStream>& http1_clients() { return http1_clients_; }
  Recycler<http1::UpstreamStream>& http1_upstreams() { return http1_upstreams_; }
  http::UpstreamStreams& upstream_streams() { return upstream_streams_; }
  CompressorPool& compressors() { return compressors_; }
  http::Mirrors& mirrors() { return mirrors_; }
  SpanExporter& spans() { return spans_; }
  Recycler<http2::ClientStream>& http2_clients() { return http2_clients_; }
  Recycler<http2::UpstreamStream>& http2_upstreams() { return http2_upstreams_; }
  http2::UpstreamPool& http2_pool() { return *http2_pool_; }
  // What is remembered of the auth entry of this id, until the next policy.
  auth::JwtMemory& jwt_memory(std::uint64_t id);
  bool draining() const { return draining_; }
  std::uint64_t random();  // not for secrets

  // Phase accept: what speaks on the connection is decided by the listener's protocol.
  void accepted(Client client);
  void identified(Client client);  // the same, once it is known whose connection it is
  void begin_tls(Client client);   // of a client that speaks it, or has to
  std::uint64_t next_connection_id();
  // A connection that was just accepted goes to a worker that has fewer; false: it stays.
  bool hand_over(const Listener& listener, int fd,
                 const std::optional<policy::SocketAddress>& peer);
  void take_handed(HandedConnection connection);  // from another worker, or back from it
  void connection_closed() { setup_.balance->closed(setup_.index); }
  void session_opened(Session& session);
  void session_closed(Session& session);

  void report_if_drained();

  // Limits of scope cluster; any thread.
  LimitLeases& leases() { return *setup_.leases; }

  // `limit` was exceeded; true when this makes a ban of `source` in the kernel, which has been
  // asked for. `claimed`: a proxy says that it is the client; nobody has shaken hands as this, so
  // it is refused here instead (refuses()), and the proxy's connection stays.
  bool strike(const WorkerConfig& config, std::uint32_t limit, const policy::IpAddress& source,
              bool claimed);
  // The same for what else calls for a ban; `route`: where it happened on one.
  bool strike(const WorkerConfig& config, const Listener& listener, policy::BanEvent event,
              std::optional<std::uint32_t> route, const policy::IpAddress& source, bool claimed);
  // Where a source's requests go that a ban of action `route` names: an index in Config::upstreams.
  std::optional<std::uint32_t> diverted(const WorkerConfig& config,
                                        const policy::IpAddress& source) const;
  // Whether `source`, that a proxy names, is banned here.
  bool refuses(const policy::IpAddress& source) const;

  // A client's HTTP/2 connection is ended for what it did; where a ban rule may come to look.
  void http2_abuse(const Listener& listener, http2::Abuse kind, const Client& client);

  // A client's handshake has failed; where a ban rule may come to look.
  void tls_failed(const Listener& listener, tls::Failure failure, const Client& client);

  // True when connecting to `destination` would lead back to one of our own listeners.
  bool is_own_address(const policy::SocketAddress& destination) const;

 private:
  bool punish(const WorkerConfig& config, const policy::BanDecision& decision, bool claimed,
              const std::string& cause);
  void run();
  void adopt_sockets(std::vector<ListenerSocket> sockets);
  void drain_sessions(bool of_gone_listeners_only);
  void end_drained();
  void stop();

  WorkerSetup setup_;
  AccessRing& ring_;
  Recycler<http1::Connection> connections_;
  Recycler<http1::ClientStream> http1_clients_;
  Recycler<http1::UpstreamStream> http1_upstreams_;
  http::UpstreamStreams upstream_streams_;
  http::Mirrors mirrors_{*this};
  SpanExporter spans_{*this};
  CompressorPool compressors_;
  Recycler<http2::ClientStream> http2_clients_;
  Recycler<http2::UpstreamStream> http2_upstreams_;
  std::unique_ptr<http2::UpstreamPool> http2_pool_;
  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  TimerWheel wheel_;
  std::unique_ptr<UpstreamWorker> upstreams_;
  RelayWorker relays_;
  AuthorityNames authority_names_;
  BufferPool buffers_;
  HeadRoomPool head_rooms_;
  RefPtr<WorkerConfig> config_;
  std::unordered_map<std::uint64_t, std::unique_ptr<auth::JwtMemory>> jwt_memories_;
  std::unique_ptr<auth::KeyFetcher> key_fetcher_;  // of the first worker, for all
  std::vector<RefPtr<Listener>> listeners_;
  SessionList sessions_;
  std::atomic<std::uint32_t> sessions_open_{0};
  std::function<void()> drained_;
  std::uint64_t random_state_;
  std::uint64_t connections_seen_ = 0;
  bool draining_ = false;
  std::thread thread_;
};

}  // namespace sluice::gateway
