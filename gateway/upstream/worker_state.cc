#include "gateway/upstream/worker_state.h"

#include <algorithm>

#include <boost/unordered/unordered_flat_set.hpp>

#include "gateway/random_seed.h"

namespace sluice::gateway {
namespace {

constexpr std::size_t kMaxSpare = 256;

}  // namespace

std::size_t hash_value(const UpstreamWorkerState::DestinationKey& key) {
  const PoolKey same{.endpoint = nullptr, .client = key.address.address};
  const std::size_t rest = std::hash<const void*>{}(key.cluster) + key.address.port;
  return (hash_value(same) ^ rest ^ std::hash<std::string>{}(key.name)) * 0x9E3779B97F4A7C15u;
}

UpstreamWorkerState::UpstreamWorkerState(boost::asio::io_context& io, TimerWheel& wheel,
                                         UpstreamWorkerOptions options)
    : io_(io), wheel_(wheel), options_(options), random_state_(random_seed()) {}

UpstreamWorkerState::~UpstreamWorkerState() = default;

// --- a new policy, the end
// -------------------------------------------------------------------------

void UpstreamWorkerState::adopt(std::shared_ptr<const ClusterSet> clusters) {
  boost::unordered_flat_set<const Endpoint*> endpoints;
  boost::unordered_flat_set<const ClusterState*> states;
  for (const auto& cluster : clusters->clusters()) {
    states.insert(&cluster->state());
    for (const auto& endpoint : cluster->endpoints())
      endpoints.insert(endpoint.get());
  }
  for (auto destination = destinations_.begin(); destination != destinations_.end();) {
    if (states.contains(destination->first.cluster)) {
      endpoints.insert(destination->second.get());
      ++destination;
    } else if (destination->second->active_requests() > 0) {
      ++destination;  // an Attempt still points to it
    } else {
      destination_index_.erase(destination->first);
      destination = destinations_.erase(destination);
    }
  }
  for (const auto& pool : all_pools()) {
    if (!endpoints.contains(&pool->endpoint())) remove(*pool);
  }
  boost::unordered::erase_if(locals_,
                             [&](const auto& local) { return !states.contains(local.first); });
  clusters_ = std::move(clusters);
  for (const auto& cluster : clusters_->clusters()) {
    const auto found = locals_.find(&cluster->state());
    if (found != locals_.end()) found->second->follow(*cluster);
  }
  // Bounds may be wider now, and names resolved.
  for (const auto& [state, local] : locals_)
    local->wake(ClusterLocal::kAllPlaces);
}

void UpstreamWorkerState::shut_down() {
  open_ = false;
  for (const auto& pool : all_pools())
    remove(*pool);
  locals_.clear();
  spare_.clear();
}

void UpstreamWorkerState::close_idle() {
  for (const auto& pool : all_pools())
    pool->close_idle();
}

void UpstreamWorkerState::leave_express() {
  for (const auto& pool : all_pools())
    if (pool->key().express) remove(*pool);
}

// --- picking
// ---------------------------------------------------------------------------------------

std::expected<Attempt, PickError> UpstreamWorkerState::begin(const Cluster& cluster,
                                                             const PickRequest& request) {
  const std::uint32_t most = cluster.config().circuit_breakers.requests;
  if (most != 0 && cluster.state().active_requests() >= most) {
    cluster.state().count_request_limit();
    return std::unexpected(PickError::request_limit);
  }
  if (cluster.config().original_destination) {
    if (!request.original_destination) return std::unexpected(PickError::no_original_destination);
    return Attempt(cluster, original_destination(cluster, request));
  }
  const auto picked = pick(cluster, request);
  if (!picked) {
    if (cluster.resolving()) return std::unexpected(PickError::resolving);
    cluster.state().count_no_endpoint();
    return std::unexpected(PickError::no_endpoints);
  }
  return Attempt(cluster, *cluster.endpoints()[*picked], *picked);
}

// No lock, and no memory once tried_ has grown.
std::optional<std::uint32_t> UpstreamWorkerState::pick(const Cluster& cluster,
                                                       const PickRequest& request) {
  const SteadyTime now = wheel_.now();
  const auto endpoints = cluster.endpoints();
  if (request.sticky && request.exclude.empty() && endpoints[*request.sticky]->available(now) &&
      !endpoints[*request.sticky]->drained()) {
    return request.sticky;
  }
  tried_.clear();
  for (const Endpoint* endpoint : request.exclude) {
    for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
      if (endpoints[i].get() == endpoint) tried_.push_back(i);
    }
  }
  const policy::LbPolicy policy = cluster.config().lb_policy;
  const RefPtr<ClusterLocal> mine = local(cluster);
  const policy::Candidates& candidates = mine->candidates(cluster, now);
  const auto load_of = [&](std::uint32_t i) {
    return policy == policy::LbPolicy::peak_ewma
               ? endpoints[i]->peak_cost(now)
               : static_cast<double>(endpoints[i]->active_requests());
  };
  policy::PickRequest wanted{
      .policy = policy, .random = random(), .hash = request.hash, .tables = cluster.maglev()};
  if (!endpoints.empty()) {
    for (auto skip = std::exchange(mine->skip, 0) % endpoints.size(); skip > 0; --skip)
      policy::pick(candidates, wanted, mine->balancer, load_of);
  }
  wanted.tried = tried_;
  auto picked = policy::pick(candidates, wanted, mine->balancer, load_of);
  if (request.only_others) return picked;
  if (!picked && !tried_.empty()) {
    wanted.tried = {};
    picked = policy::pick(candidates, wanted, mine->balancer, load_of);
  }
  if (picked && !endpoints[*picked]->available(now)) cluster.state().count_panic();
  return picked;
}

// Within the level: backups are for endpoints that are out, not for busy ones.
bool UpstreamWorkerState::move(Attempt& attempt, const PickRequest& request) {
  const Cluster& cluster = attempt.cluster();
  const policy::Upstream& config = cluster.config();
  const bool belongs = config.original_destination ||
                       config.lb_policy == policy::LbPolicy::maglev ||
                       request.sticky == attempt.index();
  // Where the upstream as a whole is at its bound, a connection that many share may have room.
  const bool shared = config.protocol == policy::UpstreamProtocol::http2 ||
                      (config.protocol == policy::UpstreamProtocol::automatic && cluster.tls());
  if (belongs || (config.circuit_breakers.endpoint_connections == 0 && !shared)) return false;
  const auto picked = pick(cluster, request);
  if (!picked || cluster.endpoints()[*picked]->priority() != attempt.endpoint().priority())
    return false;
  attempt.move(*cluster.endpoints()[*picked], *picked);
  return true;
}

RefPtr<ClusterLocal> UpstreamWorkerState::local(const Cluster& cluster) {
  RefPtr<ClusterLocal>& found = locals_[&cluster.state()];
  if (!found) found = make_ref<ClusterLocal>(cluster.shared_state(), *this);
  return found;
}

Endpoint& UpstreamWorkerState::original_destination(const Cluster& cluster,
                                                    const PickRequest& request) {
  const policy::SocketAddress& address = *request.original_destination;
  const DestinationKey key{&cluster.state(), address,
                           std::string(cluster.tls() ? request.server_name : std::string_view())};
  if (const auto found = destination_index_.find(key); found != destination_index_.end()) {
    destinations_.splice(destinations_.end(), destinations_, found->second);
    return *found->second->second;
  }
  if (destinations_.size() >= options_.max_original_destinations) forget_idle_destination();
  destinations_.emplace_back(
      key, std::make_shared<Endpoint>(address, 1, std::make_shared<ChangeCount>(), key.name));
  destination_index_.emplace(key, std::prev(destinations_.end()));
  return *destinations_.back().second;
}

// The oldest ones that are busy stay (connections are limited, so they are few).
void UpstreamWorkerState::forget_idle_destination() {
  constexpr int kLook = 16;
  auto oldest = destinations_.begin();
  for (int i = 0; i < kLook && oldest != destinations_.end(); ++i, ++oldest) {
    const Endpoint& endpoint = *oldest->second;
    if (endpoint.active_requests() > 0 || endpoint.open_connections() > 0) continue;
    destination_index_.erase(oldest->first);
    destinations_.erase(oldest);
    return;
  }
}

// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
std::uint64_t UpstreamWorkerState::random() {
  random_state_ ^= random_state_ >> 12;
  random_state_ ^= random_state_ << 25;
  random_state_ ^= random_state_ >> 27;
  return random_state_ * 0x2545F4914F6CDD1Du;
}

// --- pools
// -----------------------------------------------------------------------------------------

namespace {

PoolKey key_of(const Attempt& attempt, const policy::IpAddress& client) {
  return {.endpoint = &attempt.endpoint(),
          .client = attempt.cluster().uses_client_address() ? client : policy::IpAddress{},
          .express = attempt.express()};
}

}  // namespace

EndpointPool* UpstreamWorkerState::find_pool(const Attempt& attempt,
                                             const policy::IpAddress& client) {
  const auto found = pools_.find(key_of(attempt, client));
  if (found == pools_.end()) return nullptr;
  EndpointPool& pool = *found->second;
  if (pool.transient())
    transient_pools_.splice(transient_pools_.end(), transient_pools_,
                            transient_pools_.iterator_to(pool));
  return &pool;
}

RefPtr<EndpointPool> UpstreamWorkerState::find_or_make_pool(const Attempt& attempt,
                                                            const policy::IpAddress& client) {
  const Cluster& cluster = attempt.cluster();
  RefPtr<EndpointPool> pool(find_pool(attempt, client));
  if (!pool) {
    const bool transient = cluster.uses_client_address() || cluster.config().original_destination;
    const PoolKey key = key_of(attempt, client);
    pool = make_ref<EndpointPool>(*this, key, attempt.endpoint().shared_from_this(), local(cluster),
                                  transient);
    if (transient) {
      if (transient_pools_.size() >= options_.max_client_pools) remove(transient_pools_.front());
      transient_pools_.push_back(*pool);
    }
    pools_.emplace(key, pool);
  }
  pool->set_idle_timeout(cluster.config().timeouts.idle);
  return pool;
}

void UpstreamWorkerState::pool_is_empty(EndpointPool& pool) {
  if (pool.transient() && !pool.retired()) remove(pool);
}

void UpstreamWorkerState::remove(EndpointPool& pool) {
  const auto found = pools_.find(pool.key());
  if (found == pools_.end() || found->second.get() != &pool) return;
  const RefPtr<EndpointPool> kept = std::move(found->second);
  pools_.erase(found);
  if (pool.transient()) transient_pools_.erase(transient_pools_.iterator_to(pool));
  pool.retire();
}

std::vector<RefPtr<EndpointPool>> UpstreamWorkerState::all_pools() const {
  std::vector<RefPtr<EndpointPool>> all;
  all.reserve(pools_.size());
  for (const auto& [key, pool] : pools_)
    all.push_back(pool);
  return all;
}

std::size_t UpstreamWorkerState::idle() const {
  std::size_t sum = 0;
  for (const auto& [key, pool] : pools_)
    sum += pool->idle();
  return sum;
}

// --- connection objects
// ----------------------------------------------------------------------------

UpstreamConnectionPtr UpstreamWorkerState::make_connection() {
  if (spare_.empty()) return make_ref<UpstreamConnection>(wheel_);
  UpstreamConnectionPtr connection(std::move(spare_.back()));
  spare_.pop_back();
  return connection;
}

void UpstreamWorkerState::take_back(std::unique_ptr<UpstreamConnection> connection) {
  if (open_ && spare_.size() < kMaxSpare) spare_.push_back(std::move(connection));
}

}  // namespace sluice::gateway
