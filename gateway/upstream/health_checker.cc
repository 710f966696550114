#include "gateway/upstream/health_checker.h"

#include <random>
#include <unordered_map>
#include <utility>

#include "gateway/upstream/health_probe.h"
#include "policy/schema.h"

namespace sluice::gateway {
namespace {

bool same(const policy::HealthCheck& a, const policy::HealthCheck& b) {
  const auto& [path, grpc, interval, timeout, unhealthy, healthy] = a;
  return path == b.http_path && grpc == b.grpc && interval == b.interval && timeout == b.timeout &&
         unhealthy == b.unhealthy_threshold && healthy == b.healthy_threshold;
}

// As requests ask for it, and as they say in Host.
std::string asked_name(const Cluster& cluster, const Endpoint& endpoint) {
  const auto& tls = cluster.config().tls;
  return tls && tls->sni != policy::kAutoSni ? tls->sni : endpoint.server_name();
}

}  // namespace

// The checks of one endpoint. Its coroutine keeps it alive until it has noticed stop().
struct HealthChecker::Check : std::enable_shared_from_this<HealthChecker::Check> {
  Check(boost::asio::io_context& io, std::string upstream_name, std::shared_ptr<Endpoint> target,
        policy::HealthCheck settings, policy::UpstreamProtocol spoken,
        tls::ClientContextPtr tls_context, const std::string& server_name,
        policy::ProxyProtocol proxy_header, const Options& options, bool is_first)
      : upstream(std::move(upstream_name)),
        endpoint(std::move(target)),
        config(std::move(settings)),
        protocol(spoken),
        tls(std::move(tls_context)),
        proxy(proxy_header),
        on_change(options.on_change),
        random(std::random_device{}()),
        first(is_first),
        probe(io, endpoint->address(), config, protocol, options.own_mark, tls, server_name, proxy),
        pause(io.get_executor()) {}

  void start(boost::asio::io_context& io) {
    boost::asio::co_spawn(
        io.get_executor(),
        [self = shared_from_this()]() -> ProbeAwaitable<void> { co_await self->run(); },
        boost::asio::detached);
  }

  void stop() {
    stopped = true;
    probe.cancel();
    pause.cancel();
  }

  ProbeAwaitable<void> run() {
    // Not all endpoints of all nodes at the same moment.
    co_await wait(config.interval * (random() % 100) / 1000);
    while (!stopped) {
      const ProbeResult result = co_await probe.run(shared_from_this());
      if (stopped) co_return;
      judge(result);
      co_await probe.drain();
      co_await wait(config.interval * (900 + random() % 201) / 1000);
    }
  }

  ProbeAwaitable<void> wait(std::chrono::nanoseconds duration) {
    pause.expires_after(duration);
    co_await pause.async_wait(kProbeToken);
  }

  void judge(const ProbeResult& result) {
    if (result.verdict == ProbeResult::Verdict::unknown) return;
    const bool good = result.verdict == ProbeResult::Verdict::good;
    if (good) OutlierDetector::reached(*endpoint);
    const bool was = endpoint->healthy();
    in_row = good == was ? 0 : in_row + 1;
    const std::uint32_t needed = std::exchange(first, false) ? 1
                                 : was                       ? config.unhealthy_threshold
                                                             : config.healthy_threshold;
    if (in_row == 0 || in_row < needed) return;
    in_row = 0;
    endpoint->set_healthy(good, std::chrono::steady_clock::now());
    endpoint->health_changes_.fetch_add(1, std::memory_order_relaxed);
    if (on_change) on_change({upstream, endpoint->name(), good, result.reason});
  }

  std::string upstream;
  const std::shared_ptr<Endpoint> endpoint;
  const policy::HealthCheck config;
  const policy::UpstreamProtocol protocol;
  const tls::ClientContextPtr tls;
  const policy::ProxyProtocol proxy;
  const std::function<void(const HealthChange&)> on_change;
  std::minstd_rand random;
  std::uint32_t in_row = 0;  // results that speak against the present state
  bool first;
  bool stopped = false;
  HealthProbe probe;
  ProbeTimer pause;
};

struct HealthChecker::State {
  State(boost::asio::io_context& context, Options settings)
      : io(context), options(std::move(settings)) {}

  boost::asio::io_context& io;
  const Options options;
  std::unordered_map<const Endpoint*, std::shared_ptr<Check>> checks;
};

HealthChecker::HealthChecker(boost::asio::io_context& io, Options options)
    : state_(std::make_unique<State>(io, std::move(options))) {}

HealthChecker::~HealthChecker() {
  for (const auto& [endpoint, check] : state_->checks)
    check->stop();
}

void HealthChecker::follow(const ClusterSet& clusters) {
  auto before = std::exchange(state_->checks, {});
  for (const auto& cluster : clusters.clusters()) {
    if (!cluster->config().health_check) continue;
    const policy::HealthCheck& wanted = *cluster->config().health_check;
    const policy::UpstreamProtocol protocol = cluster->config().protocol;
    for (const auto& endpoint : cluster->endpoints()) {
      const auto known = before.find(endpoint.get());
      if (known != before.end() && same(known->second->config, wanted) &&
          known->second->protocol == protocol && known->second->tls == cluster->tls() &&
          known->second->proxy == cluster->config().send_proxy_protocol) {
        state_->checks.insert(before.extract(known));
        continue;
      }
      auto check = std::make_shared<Check>(state_->io, cluster->name(), endpoint, wanted, protocol,
                                           cluster->tls(), asked_name(*cluster, *endpoint),
                                           cluster->config().send_proxy_protocol, state_->options,
                                           known == before.end());
      check->start(state_->io);
      state_->checks.emplace(endpoint.get(), std::move(check));
    }
  }
  for (const auto& [endpoint, check] : before) {
    check->stop();
    // Without a check, nothing would ever call it healthy again.
    if (!state_->checks.contains(endpoint))
      check->endpoint->set_healthy(true, std::chrono::steady_clock::now());
  }
}

std::size_t HealthChecker::checked() const {
  return state_->checks.size();
}

}  // namespace sluice::gateway
