#include "gateway/upstream/upstream_control.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include "gateway/log.h"

namespace sluice::gateway {
namespace {

void log_health(const HealthChange& change) {
  log_info(
      "health", change.healthy ? "endpoint is healthy" : "endpoint is unhealthy",
      {{"upstream", change.upstream}, {"endpoint", change.endpoint}, {"reason", change.reason}});
}

void add_sample(std::vector<MetricSample>& samples, std::string name, std::string help,
                SampleType type, std::vector<std::pair<std::string, std::string>> labels,
                double value) {
  samples.push_back({.name = std::move(name),
                     .help = std::move(help),
                     .type = type,
                     .labels = std::move(labels),
                     .value = value});
}

void add_breakers(std::vector<MetricSample>& samples, const Cluster& cluster) {
  const ClusterState& state = cluster.state();
  const policy::CircuitBreakers& limits = cluster.config().circuit_breakers;
  const auto breaker = [&](std::string which, std::uint32_t now, std::uint32_t most) {
    add_sample(samples, "sluice_upstream_circuit_breaker_open",
               "1 while the upstream is at this bound of circuit_breakers: connections, pending, "
               "requests, retries, or endpoint_connections (one of its endpoints is at its own).",
               SampleType::gauge, {{"upstream", cluster.name()}, {"breaker", std::move(which)}},
               most != 0 && now >= most ? 1 : 0);
  };
  breaker("connections", state.open_connections(), limits.connections);
  std::uint32_t fullest = 0;
  for (const auto& endpoint : cluster.endpoints())
    fullest = std::max<std::uint32_t>(fullest, endpoint->open_connections());
  breaker("endpoint_connections", fullest, limits.endpoint_connections);
  breaker("pending", state.pending(), limits.pending);
  breaker("requests", state.active_requests(), limits.requests);
  breaker("retries", state.retries().active_retries(), limits.retries);
  add_sample(samples, "sluice_upstream_pending_requests", "Requests that wait for a connection.",
             SampleType::gauge, {{"upstream", cluster.name()}}, state.pending());
  add_sample(samples, "sluice_upstream_endpoints",
             "Endpoints that the upstream consists of, those of DNS names and Services included.",
             SampleType::gauge, {{"upstream", cluster.name()}},
             static_cast<double>(cluster.endpoints().size()));
}

void add_dns(std::vector<MetricSample>& samples, const DnsCount& count) {
  const auto add = [&](std::string result, std::uint64_t value) {
    add_sample(samples, "sluice_dns_lookups_total",
               "Questions to DNS for the policy's endpoints: answered, or failed (the last good "
               "answer holds).",
               SampleType::counter,
               {{"name", count.name}, {"type", count.type}, {"result", std::move(result)}},
               static_cast<double>(value));
  };
  add("answered", count.answered);
  add("failed", count.failed);
}

void log_ejection(const std::string& upstream, const std::string& endpoint) {
  log_info("health", "endpoint is ejected for its success rate",
           {{"upstream", upstream}, {"endpoint", endpoint}});
}

}  // namespace

UpstreamControl::UpstreamControl(boost::asio::io_context& io, KeptAnswers& kept,
                                 UpstreamControlOptions options)
    : kept_(kept),
      options_(std::move(options)),
      health_(io, {.own_mark = options_.own_mark, .on_change = &log_health}),
      success_rates_(io, &log_ejection),
      discovery_(io, {.own_mark = options_.own_mark, .on_change = [this] { rediscovered(); }}),
      services_(io, [this] { rediscovered(); }) {
  registry_.set_resolver(
      [this](const policy::Upstream& upstream, const policy::Endpoint& endpoint) {
        return kept_.resolve(upstream, endpoint,
                             endpoint.is_service() ? services_.resolve(endpoint)
                                                   : discovery_.resolve(upstream, endpoint));
      });
}

std::shared_ptr<const ClusterSet> UpstreamControl::apply(
    const std::vector<policy::Upstream>& upstreams, tls::ContextsPtr tls,
    std::optional<kubernetes::ApiServer> server) {
  upstreams_ = upstreams;
  kept_.follow(upstreams_);
  tls_ = std::move(tls);
  discovery_.follow(upstreams_);
  services_.follow(upstreams_, std::move(server));
  return refresh();
}

std::shared_ptr<const ClusterSet> UpstreamControl::refresh() {
  auto clusters = registry_.apply(upstreams_, tls_.get());
  health_.follow(*clusters);
  success_rates_.follow(clusters);
  return clusters;
}

void UpstreamControl::rediscovered() {
  const auto before = registry_.current();
  auto clusters = refresh();
  if (clusters != before && options_.on_change) options_.on_change(std::move(clusters));
}

std::expected<void, std::string> UpstreamControl::order(const EndpointOrder& order) {
  const auto done = registry_.order(order);
  if (!done) return done;
  std::string what;
  if (order.drained) what = *order.drained ? "drain" : "ready";
  if (order.weight) what = "weight " + std::to_string(*order.weight);
  log_info("upstream", "an operator has set endpoints",
           {{"order", what},
            {"upstream", order.upstream},
            {"endpoint", order.endpoint.empty() ? "all" : order.endpoint}});
  rediscovered();
  return {};
}

std::vector<MetricSample> UpstreamControl::samples() const {
  std::vector<MetricSample> samples;
  for (const auto& cluster : registry_.current()->clusters())
    add_breakers(samples, *cluster);
  for (const DnsCount& count : discovery_.counts())
    add_dns(samples, count);
  for (MetricSample& sample : services_.samples())
    samples.push_back(std::move(sample));
  return samples;
}

}  // namespace sluice::gateway
