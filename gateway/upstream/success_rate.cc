#include "gateway/upstream/success_rate.h"

#include <cmath>
#include <map>
#include <utility>

#include <boost/asio/steady_timer.hpp>

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;

RequestVolume volume_of(const Endpoint& endpoint) {
  const EndpointTotals totals = endpoint.totals();
  RequestVolume volume;
  for (std::size_t i = 0; i < kOutcomes; ++i) {
    if (static_cast<Outcome>(i) != Outcome::neutral) volume.total += totals.outcomes[i];
  }
  volume.succeeded = totals.outcomes[static_cast<std::size_t>(Outcome::success)];
  return volume;
}

}  // namespace

std::vector<std::size_t> success_rate_outliers(std::span<const RequestVolume> volumes,
                                               const policy::SuccessRate& config) {
  std::vector<std::pair<std::size_t, double>> rates;
  double sum = 0;
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    if (volumes[i].total == 0 || volumes[i].total < config.request_volume) continue;
    const double rate =
        static_cast<double>(volumes[i].succeeded) / static_cast<double>(volumes[i].total);
    rates.emplace_back(i, rate);
    sum += rate;
  }
  if (rates.empty() || rates.size() < config.minimum_hosts) return {};
  const double mean = sum / static_cast<double>(rates.size());
  double squares = 0;
  for (const auto& [index, rate] : rates)
    squares += (rate - mean) * (rate - mean);
  const double threshold =
      mean - config.stdev_factor * std::sqrt(squares / static_cast<double>(rates.size()));
  std::vector<std::size_t> outliers;
  for (const auto& [index, rate] : rates) {
    if (rate < threshold) outliers.push_back(index);
  }
  return outliers;
}

// One upstream's interval.
struct SuccessRateJudge::Watch : std::enable_shared_from_this<SuccessRateJudge::Watch> {
  explicit Watch(asio::io_context& io) : timer(io) {}

  void arm(const OnEjection& on_ejection) {
    timer.expires_after(cluster->config().outlier_detection.success_rate->interval);
    timer.async_wait(
        [self = shared_from_this(), on_ejection](const boost::system::error_code& error) {
          if (error || self->stopped) return;
          self->judge(on_ejection);
          self->arm(on_ejection);
        });
  }

  void judge(const OnEjection& on_ejection) {
    const policy::SuccessRate& config = *cluster->config().outlier_detection.success_rate;
    std::vector<RequestVolume> volumes;
    std::unordered_map<const Endpoint*, RequestVolume> now;
    for (const auto& endpoint : cluster->endpoints()) {
      const RequestVolume total = volume_of(*endpoint);
      const RequestVolume before = last[endpoint.get()];
      volumes.push_back({total.succeeded - before.succeeded, total.total - before.total});
      now.emplace(endpoint.get(), total);
    }
    last = std::move(now);
    for (const std::size_t index : success_rate_outliers(volumes, config)) {
      Endpoint& endpoint = *cluster->endpoints()[index];
      const bool ejected = cluster->outliers().eject_for_success_rate(
          endpoint, cluster->endpoints(), std::chrono::steady_clock::now());
      if (ejected && on_ejection) on_ejection(cluster->name(), endpoint.name());
    }
  }

  asio::steady_timer timer;
  std::shared_ptr<const Cluster> cluster;
  std::unordered_map<const Endpoint*, RequestVolume> last;
  bool stopped = false;
};

struct SuccessRateJudge::State {
  asio::io_context& io;
  OnEjection on_ejection;
  std::map<std::string, std::shared_ptr<Watch>> watches;
};

SuccessRateJudge::SuccessRateJudge(asio::io_context& io, OnEjection on_ejection)
    : state_(std::make_shared<State>(State{io, std::move(on_ejection), {}})) {}

SuccessRateJudge::~SuccessRateJudge() {
  for (const auto& [name, watch] : state_->watches) {
    watch->stopped = true;
    watch->timer.cancel();
  }
}

void SuccessRateJudge::follow(std::shared_ptr<const ClusterSet> clusters) {
  auto before = std::exchange(state_->watches, {});
  for (const auto& cluster : clusters->clusters()) {
    const auto& wanted = cluster->config().outlier_detection.success_rate;
    if (!wanted) continue;
    const auto known = before.find(cluster->name());
    if (known != before.end() &&
        known->second->cluster->config().outlier_detection.success_rate->interval ==
            wanted->interval) {
      known->second->cluster = cluster;
      state_->watches.insert(before.extract(known));
      continue;
    }
    auto watch = std::make_shared<Watch>(state_->io);
    watch->cluster = cluster;
    for (const auto& endpoint : cluster->endpoints())
      watch->last.emplace(endpoint.get(), volume_of(*endpoint));
    watch->arm(state_->on_ejection);
    state_->watches.emplace(cluster->name(), std::move(watch));
  }
  for (const auto& [name, watch] : before) {
    watch->stopped = true;
    watch->timer.cancel();
  }
}

}  // namespace sluice::gateway
