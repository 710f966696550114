// Which endpoints the Services that a policy names consist of, by their EndpointSlices.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/kubernetes/endpoint_slices.h"
#include "gateway/kubernetes/watch.h"
#include "gateway/metrics_samples.h"
#include "gateway/upstream/registry.h"
#include "policy/config.h"

namespace sluice::gateway::kubernetes {

// Control thread only. What was heard last holds while the API server cannot be asked.
class ServiceDiscovery {
 public:
  // `on_change`: resolve() may say something else than before.
  ServiceDiscovery(boost::asio::io_context& io, std::function<void()> on_change);
  ~ServiceDiscovery() { *alive_ = false; }

  // The Services of these from now on, asked of `server`; nullopt: there is none to ask. What is
  // known of those that stay is kept.
  void follow(const std::vector<policy::Upstream>& upstreams, std::optional<ApiServer> server);

  Resolution resolve(const policy::Endpoint& endpoint) const;
  std::vector<MetricSample> samples() const;

 private:
  using Name = std::pair<std::string, std::string>;  // namespace, Service
  struct Followed {
    EndpointSlices slices;
    bool known = false;
    std::unique_ptr<Watch> watch;
  };

  void begin(const Name& name, Followed& service);
  void changed();

  boost::asio::io_context& io_;
  std::function<void()> on_change_;
  std::optional<ApiServer> server_;
  std::map<Name, std::unique_ptr<Followed>> services_;
  bool change_posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sluice::gateway::kubernetes
