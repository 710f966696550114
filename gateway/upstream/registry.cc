#include "gateway/upstream/registry.h"

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "policy/balancing_candidates.h"
#include "policy/snapshot.h"

namespace sluice::gateway {
namespace {

// Addresses of the policy and of its names, each once: the first mention counts.
std::vector<ResolvedEndpoint> wanted_endpoints(const policy::Upstream& config,
                                               const ClusterRegistry::Resolve& resolve,
                                               bool& resolving) {
  std::vector<ResolvedEndpoint> wanted;
  for (const policy::Endpoint& endpoint : config.endpoints) {
    if (!endpoint.is_name()) {
      wanted.push_back({endpoint.address, endpoint.weight, endpoint.priority, {}});
      continue;
    }
    const Resolution found = resolve ? resolve(config, endpoint) : Resolution{};
    resolving = resolving || !found.known;
    for (const ResolvedEndpoint& one : found.endpoints) {
      wanted.push_back({one.address, one.weight * endpoint.weight,
                        std::min(one.priority + endpoint.priority, policy::kMaxPriority),
                        one.server_name});
    }
  }
  std::vector<ResolvedEndpoint> once;
  std::map<policy::SocketAddress, bool> seen;
  for (const ResolvedEndpoint& one : wanted) {
    if (seen.emplace(one.address, true).second) once.push_back(one);
  }
  return once;
}

}  // namespace

std::shared_ptr<Endpoint> ClusterRegistry::endpoint_of(const policy::Upstream& config,
                                                       const ResolvedEndpoint& wanted,
                                                       const Known* before,
                                                       const std::shared_ptr<ClusterState>& state,
                                                       bool& moved) const {
  std::shared_ptr<Endpoint> endpoint;
  if (before != nullptr) {
    if (const auto known = before->find(wanted.address); known != before->end())
      endpoint = known->second;
  }
  const bool fresh = endpoint == nullptr;
  if (fresh) {
    endpoint = std::make_shared<Endpoint>(wanted.address, wanted.weight, state->changes(),
                                          wanted.server_name);
    // What joins others that are at work starts slowly.
    if (before != nullptr) endpoint->came(std::chrono::steady_clock::now());
  }
  const Standing set = standing(config.name, endpoint->name());
  const std::uint32_t weight = set.weight.value_or(wanted.weight);
  moved = moved || endpoint->weight() != weight || endpoint->priority() != wanted.priority;
  endpoint->set_drained(set.drained);
  endpoint->set_weight(weight);
  endpoint->set_priority(wanted.priority);
  return endpoint;
}

ClusterRegistry::Wanted ClusterRegistry::wanted(const policy::Upstream& config,
                                                const Cluster* before,
                                                const std::shared_ptr<ClusterState>& state) const {
  Known known;
  if (before != nullptr) {
    for (const auto& endpoint : before->endpoints())
      known.emplace(endpoint->address(), endpoint);
  }
  Wanted wanted;
  ClusterEndpoints& endpoints = wanted.endpoints;
  for (const ResolvedEndpoint& one : wanted_endpoints(config, resolve_, endpoints.resolving)) {
    endpoints.list.push_back(
        endpoint_of(config, one, known.empty() ? nullptr : &known, state, wanted.moved));
  }
  endpoints.resolving = endpoints.resolving && endpoints.list.empty();
  return wanted;
}

std::shared_ptr<const ClusterSet> ClusterRegistry::apply(
    const std::vector<policy::Upstream>& upstreams, const tls::Contexts* tls) {
  forget_orders(upstreams);
  const auto before = current();
  std::unordered_map<std::string_view, std::shared_ptr<const Cluster>> known;
  for (const auto& cluster : before->clusters())
    known.emplace(cluster->name(), cluster);
  std::vector<std::shared_ptr<const Cluster>> clusters;
  clusters.reserve(upstreams.size());
  for (std::size_t i = 0; i < upstreams.size(); ++i) {
    const policy::Upstream& config = upstreams[i];
    const tls::ClientContextPtr secure = tls == nullptr ? nullptr : tls->upstream(i);
    const auto found = known.find(config.name);
    const Cluster* old = found == known.end() ? nullptr : found->second.get();
    const auto state = old != nullptr ? old->shared_state() : std::make_shared<ClusterState>();
    Wanted now = wanted(config, old, state);
    // Contexts of the same meaning are the same object.
    const bool same = old != nullptr && old->fingerprint() == policy::fingerprint(config) &&
                      old->tls() == secure && old->resolving() == now.endpoints.resolving &&
                      (!now.moved || old->maglev().empty()) &&
                      std::ranges::equal(old->endpoints(), now.endpoints.list);
    clusters.push_back(
        same ? found->second
             : std::make_shared<const Cluster>(config, std::move(now.endpoints), state, secure));
  }
  if (std::ranges::equal(before->clusters(), clusters)) return before;
  auto set = std::make_shared<const ClusterSet>(std::move(clusters));
  const std::lock_guard lock(mutex_);
  current_ = set;
  return set;
}

void ClusterRegistry::forget_orders(const std::vector<policy::Upstream>& upstreams) {
  std::erase_if(orders_, [&](const auto& entry) {
    return std::ranges::find(upstreams, entry.first.first, &policy::Upstream::name) ==
           upstreams.end();
  });
}

ClusterRegistry::Standing ClusterRegistry::standing(const std::string& upstream,
                                                    const std::string& endpoint) const {
  const auto found = orders_.find({upstream, endpoint});
  return found == orders_.end() ? Standing{} : found->second;
}

namespace {

template <typename Items>
std::string names_of(const Items& items) {
  std::string names;
  for (const auto& item : items)
    names += (names.empty() ? "" : ", ") + item->name();
  return names.empty() ? "none" : names;
}

}  // namespace

std::expected<void, std::string> ClusterRegistry::order(const EndpointOrder& order) {
  const auto set = current();
  const Cluster* cluster = set->find(order.upstream);
  if (cluster == nullptr)
    return std::unexpected("there is no upstream '" + order.upstream +
                           "'; there are: " + names_of(set->clusters()));
  std::vector<std::string> names;
  for (const auto& endpoint : cluster->endpoints()) {
    if (order.endpoint.empty() || order.endpoint == endpoint->name())
      names.push_back(endpoint->name());
  }
  // One that DNS has taken away for now can still be given back.
  if (names.empty() && orders_.contains({order.upstream, order.endpoint}))
    names.push_back(order.endpoint);
  if (names.empty())
    return std::unexpected("upstream '" + order.upstream + "' has no endpoint" +
                           (order.endpoint.empty() ? "" : " '" + order.endpoint + "'") +
                           "; it has: " + names_of(cluster->endpoints()));
  for (const std::string& name : names) {
    Standing& standing = orders_[{order.upstream, name}];
    if (order.drained) standing.drained = *order.drained;
    if (order.weight) standing.weight = order.weight;
    if (order.policy_weight) standing.weight.reset();
    if (!standing.drained && !standing.weight) orders_.erase({order.upstream, name});
  }
  return {};
}

std::shared_ptr<const ClusterSet> ClusterRegistry::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

}  // namespace sluice::gateway
