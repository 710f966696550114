#include "gateway/upstream/registry.h"

#include <algorithm>
#include <tuple>

namespace sluice::gateway {
namespace {

// A new field of these makes the bindings below fail to compile: it has to be compared too.
auto meaning(const policy::HealthCheck& check) {
  const auto& [path, interval, timeout, unhealthy, healthy] = check;
  return std::tie(path, interval, timeout, unhealthy, healthy);
}

auto meaning(const policy::OutlierDetection& outliers) {
  const auto& [server_errors, connect_failures, base, percent] = outliers;
  return std::tie(server_errors, connect_failures, base, percent);
}

auto meaning(const policy::UpstreamTimeouts& timeouts) {
  const auto& [connect, first_byte, idle] = timeouts;
  return std::tie(connect, first_byte, idle);
}

auto meaning(const policy::Retry& retry) {
  const auto& [on, attempts, budget] = retry;
  return std::tie(on, attempts, budget);
}

bool same_endpoint(const policy::Endpoint& a, const policy::Endpoint& b) {
  const auto& [address, weight, where] = a;
  return address == b.address && weight == b.weight;
}

bool same_check(const std::optional<policy::HealthCheck>& a,
                const std::optional<policy::HealthCheck>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return meaning(*a) == meaning(*b);
}

bool same_meaning(const policy::Upstream& a, const policy::Upstream& b) {
  const auto& [name, original_destination, endpoints, protocol, source, balancing, check, outliers,
               timeouts, retry, max_connections, where] = a;
  return name == b.name && original_destination == b.original_destination &&
         std::ranges::equal(endpoints, b.endpoints, same_endpoint) && protocol == b.protocol &&
         source == b.source_address && balancing == b.lb_policy &&
         same_check(check, b.health_check) && meaning(outliers) == meaning(b.outlier_detection) &&
         meaning(timeouts) == meaning(b.timeouts) && meaning(retry) == meaning(b.retry) &&
         max_connections == b.max_connections;
}

// The endpoints of `config`, those of `before` kept where the address is the same (each once).
std::vector<std::shared_ptr<Endpoint>> endpoints_of(const policy::Upstream& config,
                                                    const Cluster* before) {
  std::vector<std::shared_ptr<Endpoint>> known;
  if (before) known.assign(before->endpoints().begin(), before->endpoints().end());
  std::vector<std::shared_ptr<Endpoint>> endpoints;
  endpoints.reserve(config.endpoints.size());
  for (const policy::Endpoint& wanted : config.endpoints) {
    const auto kept = std::ranges::find_if(
        known, [&](const auto& endpoint) { return endpoint->address() == wanted.address; });
    if (kept == known.end()) {
      endpoints.push_back(std::make_shared<Endpoint>(wanted.address, wanted.weight));
      continue;
    }
    (*kept)->set_weight(wanted.weight);
    endpoints.push_back(std::move(*kept));
    known.erase(kept);
  }
  return endpoints;
}

}  // namespace

std::shared_ptr<const ClusterSet> ClusterRegistry::apply(
    const std::vector<policy::Upstream>& upstreams) {
  const auto before = current();
  std::vector<std::shared_ptr<const Cluster>> clusters;
  clusters.reserve(upstreams.size());
  for (const policy::Upstream& config : upstreams) {
    const auto found = std::ranges::find_if(
        before->clusters(), [&](const auto& cluster) { return cluster->name() == config.name; });
    const bool known = found != before->clusters().end();
    if (known && same_meaning((*found)->config(), config)) {
      clusters.push_back(*found);
      continue;
    }
    clusters.push_back(std::make_shared<const Cluster>(
        config, endpoints_of(config, known ? found->get() : nullptr),
        known ? (*found)->shared_state() : std::make_shared<ClusterState>()));
  }
  auto set = std::make_shared<const ClusterSet>(std::move(clusters));
  const std::lock_guard lock(mutex_);
  current_ = set;
  return set;
}

std::shared_ptr<const ClusterSet> ClusterRegistry::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

}  // namespace sluice::gateway
