#include "gateway/kubernetes/service_discovery.h"

#include <set>

#include <boost/asio/post.hpp>

#include "gateway/kubernetes/watch_samples.h"

namespace sluice::gateway::kubernetes {

ServiceDiscovery::ServiceDiscovery(boost::asio::io_context& io, std::function<void()> on_change)
    : io_(io), on_change_(std::move(on_change)) {}

void ServiceDiscovery::follow(const std::vector<policy::Upstream>& upstreams,
                              std::optional<ApiServer> server) {
  std::set<Name> wanted;
  for (const policy::Upstream& upstream : upstreams) {
    for (const policy::Endpoint& endpoint : upstream.endpoints)
      if (endpoint.is_service())
        wanted.emplace(endpoint.kubernetes.name_space, endpoint.kubernetes.service);
  }
  std::erase_if(services_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  server_ = std::move(server);
  for (const Name& name : wanted) {
    auto& service = services_[name];
    if (!service) service = std::make_unique<Followed>();
    if (!server_) {
      service->watch.reset();
    } else if (service->watch) {
      service->watch->use(*server_);
    } else {
      begin(name, *service);
    }
  }
}

// One watch a Service: what is sent is what is asked for, however large the namespace is.
void ServiceDiscovery::begin(const Name& name, Followed& service) {
  Followed* const known = &service;  // as long as its watch
  service.watch = std::make_unique<Watch>(
      io_,
      WatchOptions{
          .path = "/apis/discovery.k8s.io/v1/namespaces/" + name.first + "/endpointslices",
          .selector = "labelSelector=" + percent_encoded("kubernetes.io/service-name=" + name.second),
          .name = "endpointslices of " + name.first + "/" + name.second},
      *server_,
      Watch::Events{.listed =
                        [this, known](const boost::json::array& items) {
                          known->slices.replace(items);
                          known->known = true;
                          changed();
                        },
                    .put =
                        [this, known](const boost::json::object& item) {
                          known->slices.put(item);
                          changed();
                        },
                    .removed =
                        [this, known](const boost::json::object& item) {
                          known->slices.remove(item);
                          changed();
                        }});
}

// Events that come together are one change.
void ServiceDiscovery::changed() {
  if (std::exchange(change_posted_, true)) return;
  boost::asio::post(io_, [this, alive = alive_] {
    if (!*alive) return;
    change_posted_ = false;
    on_change_();
  });
}

Resolution ServiceDiscovery::resolve(const policy::Endpoint& endpoint) const {
  const policy::KubernetesService& service = endpoint.kubernetes;
  const auto found = services_.find({service.name_space, service.service});
  if (found == services_.end() || !found->second->known) return {};
  Resolution out{.endpoints = {}, .known = true};
  const std::string server_name = service.service + "." + service.name_space + ".svc";
  for (const policy::SocketAddress& address :
       found->second->slices.endpoints(service.port, endpoint.family))
    out.endpoints.push_back({.address = address, .server_name = server_name});
  return out;
}

std::vector<MetricSample> ServiceDiscovery::samples() const {
  std::vector<MetricSample> out;
  for (const auto& [name, service] : services_) {
    if (service->watch)
      add_watch_samples("endpointslices", name.first + "/" + name.second, service->watch->counts(),
                        out);
  }
  return out;
}

}  // namespace sluice::gateway::kubernetes
