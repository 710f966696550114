// The control thread's side of all upstreams: which endpoints there are, which are well, and what
// operators have set.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/kubernetes/service_discovery.h"
#include "gateway/metrics_samples.h"
#include "gateway/upstream/discovery.h"
#include "gateway/upstream/health_checker.h"
#include "gateway/upstream/kept_answers.h"
#include "gateway/upstream/registry.h"
#include "gateway/upstream/success_rate.h"

namespace sluice::gateway {

struct UpstreamControlOptions {
  std::uint32_t own_mark = 0;  // SO_MARK of checks and DNS; 0: none
  // DNS or the Kubernetes API has changed what the policy's upstreams consist of. Called on the
  // control thread.
  std::function<void(std::shared_ptr<const ClusterSet>)> on_change;
};

// Control thread only, but current().
class UpstreamControl {
 public:
  // `kept` outlives it.
  UpstreamControl(boost::asio::io_context& io, KeptAnswers& kept, UpstreamControlOptions options);

  // The clusters of a policy from now on.
  // `tls`: contexts of the same policy; null: it has none. `server`: who is asked for Services.
  std::shared_ptr<const ClusterSet> apply(
      const std::vector<policy::Upstream>& upstreams, tls::ContextsPtr tls,
      std::optional<kubernetes::ApiServer> server = std::nullopt);
  // At once, and for endpoints of this name that come later; ClusterRegistry::order.
  std::expected<void, std::string> order(const EndpointOrder& order);

  std::shared_ptr<const ClusterSet> current() const { return registry_.current(); }
  // State of circuit breakers, of what upstreams consist of, of DNS and of the Kubernetes API.
  std::vector<MetricSample> samples() const;

 private:
  std::shared_ptr<const ClusterSet> refresh();
  void rediscovered();

  KeptAnswers& kept_;
  UpstreamControlOptions options_;
  ClusterRegistry registry_;
  std::vector<policy::Upstream> upstreams_;
  tls::ContextsPtr tls_;
  HealthChecker health_;
  SuccessRateJudge success_rates_;
  Discovery discovery_;
  kubernetes::ServiceDiscovery services_;
};

}  // namespace sluice::gateway
