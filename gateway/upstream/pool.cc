#include "gateway/upstream/pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "gateway/proxy_protocol.h"
#include "gateway/upstream/worker_state.h"

namespace sluice::gateway {

using boost::system::error_code;

ClusterLocal::ClusterLocal(std::shared_ptr<ClusterState> state, UpstreamWorkerState& worker)
    : shared(std::move(state)), skip(worker.options().worker), worker_(worker) {}

void ClusterLocal::follow(const Cluster& cluster) {
  if (cluster.serial() <= limits_of_) return;
  limits_of_ = cluster.serial();
  limits_ = cluster.config().circuit_breakers;
}

const policy::Candidates& ClusterLocal::candidates(const Cluster& cluster, SteadyTime now) {
  if (built_for_ != cluster.serial() || built_at_ != shared->changes()->get() ||
      now >= build_again_) {
    build(cluster, now);
  }
  return candidates_;
}

void ClusterLocal::build(const Cluster& cluster, SteadyTime now) {
  // Read first: what changes while this looks is seen by the next one.
  built_at_ = shared->changes()->get();
  built_for_ = cluster.serial();
  build_again_ = SteadyTime::max();
  const std::int64_t now_ns = now.time_since_epoch().count();
  views_.clear();
  for (const auto& endpoint : cluster.endpoints()) {
    const std::int64_t until = endpoint->ejected_until();
    if (until > now_ns)
      build_again_ = std::min(build_again_, SteadyTime(std::chrono::nanoseconds(until)));
    const std::int64_t since = endpoint->usable_since();
    views_.push_back(
        {.weight = endpoint->drained() ? 0 : endpoint->weight(),
         .priority = endpoint->priority(),
         .available = endpoint->available(now),
         .usable_for = since == 0 ? policy::Duration::max() : policy::Duration(now_ns - since)});
  }
  const policy::Upstream& config = cluster.config();
  candidates_.build(views_,
                    {.slow_start = config.slow_start, .panic_percent = config.panic_percent});
  if (candidates_.warming()) {
    constexpr int kSteps = 50;
    build_again_ = std::min<SteadyTime>(build_again_, now + config.slow_start / kSteps);
  }
}

std::size_t hash_value(const PoolKey& key) {
  std::uint64_t halves[2];
  std::memcpy(halves, key.client.bytes().data(), sizeof halves);
  std::size_t seed = std::hash<const void*>{}(key.endpoint) ^ static_cast<std::size_t>(key.express);
  for (const std::uint64_t half : halves)
    seed = (seed ^ half) * 0x9E3779B97F4A7C15u;
  return seed ^ (seed >> 32);
}

EndpointPool::EndpointPool(UpstreamWorkerState& worker, PoolKey key,
                           std::shared_ptr<Endpoint> endpoint, RefPtr<ClusterLocal> cluster,
                           bool transient)
    : worker_(&worker),
      key_(key),
      endpoint_(std::move(endpoint)),
      cluster_(std::move(cluster)),
      transient_(transient) {}

EndpointPool::~EndpointPool() = default;

// A session stands for a verification, so that it is worth nothing under another context.
RefPtr<tls::SessionSlot> EndpointPool::tls_sessions(const tls::ClientContextPtr& context) {
  if (!tls_sessions_ || tls_sessions_of_ != context) tls_sessions_ = make_ref<tls::SessionSlot>();
  tls_sessions_of_ = context;
  return tls_sessions_;
}

UpstreamConnectionPtr EndpointPool::take(const Cluster& cluster) {
  const bool introduced = cluster.config().send_proxy_protocol != policy::ProxyProtocol::none;
  while (!idle_.empty() && (introduced || idle_.back().tls() != cluster.tls()))
    idle_.back().close();
  if (idle_.empty()) return nullptr;
  UpstreamConnection& connection = idle_.back();
  leave_idle(connection);
  connection.state_ = UpstreamConnection::State::in_use;
  ++connection.requests_;
  endpoint_->reused_.fetch_add(1, std::memory_order_relaxed);
  return std::move(connection.kept_);
}

std::expected<UpstreamConnectionPtr, ConnectFailure> EndpointPool::connect(
    const Cluster& cluster, ConnectHandler& handler) {
  cluster_->follow(cluster);
  if (!take_place())
    return std::unexpected(ConnectFailure{.reason = ConnectError::connection_limit});

  if (cluster.config().tls && !cluster.tls())
    return std::unexpected(
        ConnectFailure{.reason = ConnectError::other, .step = "TLS is not ready"});

  UpstreamConnectionPtr connection = worker_->make_connection();
  connection->pool_ = RefPtr(this);
  connection->counted_ = true;
  connection->state_ = UpstreamConnection::State::connecting;
  connection->tls_ = cluster.tls();
  connection->began_ = std::chrono::steady_clock::now();

  ConnectOptions options{.destination = endpoint_->address(),
                         .mark = worker_->options().own_mark,
                         .source = std::nullopt,
                         .express = key_.express};
  if (key_.client != policy::IpAddress{}) options.source = key_.client;
  auto opened = open_connection(options);
  // What idles gives its descriptor to what works.
  while (!opened && opened.error().reason == ConnectError::out_of_descriptors &&
         !cluster_->idle.empty()) {
    cluster_->idle.front().make_room();
    opened = open_connection(options);
  }
  if (!opened) {
    connection->close();
    return std::unexpected(opened.error());
  }
  error_code error;
  connection->transport_ = Transport::adopt(worker_->io(), opened->fd, error);
  if (!connection->transport_) {
    connection->close();
    return std::unexpected(ConnectFailure{ConnectError::out_of_descriptors, error, "epoll"});
  }
  Transport::report_unread_bytes(opened->fd);
  if (key_.express) connection->transport_->expect_express();
  connection->transport_->set_user(connection.get());
  const policy::ProxyProtocol version = cluster.config().send_proxy_protocol;
  if (version != policy::ProxyProtocol::none) {
    if (const auto client = handler.proxied_client())
      connection->introduction_ = make_proxy_header(version, client->source, client->destination);
  }
  if (opened->connected && !connection->tls_) {
    connection->introduce();
    connection->established();
    return connection;
  }
  connection->handler_ = &handler;
  worker_->wheel().arm(connection->timer_, cluster.config().timeouts.connect);
  connection->want_write();
  return connection;
}

void EndpointPool::give_back(UpstreamConnectionPtr connection) {
  const bool wanted = !retired_ && connection->state_ == UpstreamConnection::State::in_use &&
                      connection->transport_ && connection->introduction_.empty() &&
                      idle_timeout_.count() > 0 && worker_->options().max_idle_per_endpoint > 0 &&
                      !cluster_->others_wait() &&
                      !(cluster_->owes_place() && cluster_->full(*this));
  if (!wanted) return connection->close();
  if (idle_.size() >= worker_->options().max_idle_per_endpoint) idle_.front().close();

  UpstreamConnection& idle = *connection;
  idle.state_ = UpstreamConnection::State::idle;
  idle_.push_back(idle);
  worker_->wheel().arm(idle.timer_, idle_timeout_);
  idle.kept_ = std::move(connection);
  idle.want_read();
  keep_idle(idle);
}

// Who waits here may have it, or its place; others may come to want that.
void EndpointPool::keep_idle(UpstreamConnection& connection) {
  cluster_->idle.push_back(connection);
  cluster_->wake();
  cluster_->kept_idle(*this);
}

void EndpointPool::close_idle() {
  while (!idle_.empty())
    idle_.back().close();
}

void EndpointPool::retire() {
  retired_ = true;
  close_idle();
  if (connections_ > 0) close_at_rest();
}

void EndpointPool::close_at_rest() {
  for (auto next = cluster_->idle.begin(); next != cluster_->idle.end();) {
    UpstreamConnection& connection = *next++;
    if (&connection.pool() == this) connection.make_room();
  }
}

void EndpointPool::count_established() {
  endpoint_->connections_.fetch_add(1, std::memory_order_relaxed);
}

void EndpointPool::leave_idle(UpstreamConnection& connection) {
  if (connection.pool_hook.is_linked()) idle_.erase(idle_.iterator_to(connection));
  cluster_->idle.erase(cluster_->idle.iterator_to(connection));
}

// At the limit, the cluster's oldest idle connection makes room: those of other clients or
// endpoints would otherwise hold their places until they time out.
bool EndpointPool::take_place() {
  ClusterState& shared = *cluster_->shared;
  if (cluster_->leaves_last_place(*this) || !take_place_at_endpoint()) {
    shared.count_connection_limit();
    return false;
  }
  while (!shared.try_add_connection(cluster_->limits().connections)) {
    if (cluster_->idle.empty()) {
      endpoint_->open_connections_.fetch_sub(1, std::memory_order_relaxed);
      shared.count_connection_limit();
      return false;
    }
    cluster_->idle.front().make_room();
  }
  ++connections_;
  cluster_->place_taken();
  return true;
}

// A client's pool finds its endpoint's idle connections in those of other clients.
bool EndpointPool::take_place_at_endpoint() {
  const std::uint32_t most = cluster_->limits().endpoint_connections;
  while (endpoint_is_full() || !endpoint_->try_add_connection(most)) {
    IdleByAge& idle = cluster_->idle;
    const auto oldest = std::ranges::find_if(
        idle, [&](const UpstreamConnection& one) { return &one.endpoint() == endpoint_.get(); });
    if (oldest == idle.end()) return false;
    oldest->make_room();
  }
  return true;
}

void EndpointPool::release_place() {
  const bool was_scarce = cluster_->full(*this);
  endpoint_->open_connections_.fetch_sub(1, std::memory_order_relaxed);
  cluster_->shared->remove_connection();
  cluster_->place_given_back(was_scarce);
  if (--connections_ == 0) worker_->pool_is_empty(*this);
}

}  // namespace sluice::gateway
