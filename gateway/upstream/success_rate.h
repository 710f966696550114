// Outlier detection by success rate: who fails much more than the others do (Envoy: success rate
// outlier detection).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/upstream/cluster.h"

namespace sluice::gateway {

// What an endpoint has done in an interval.
struct RequestVolume {
  std::uint64_t succeeded = 0;
  std::uint64_t total = 0;
};

// Indices of those below mean − stdev_factor × standard deviation; only endpoints of
// request_volume count, and nobody is named where fewer than minimum_hosts do. Pure.
std::vector<std::size_t> success_rate_outliers(std::span<const RequestVolume> volumes,
                                               const policy::SuccessRate& config);

// Judges at each interval. Control thread only.
class SuccessRateJudge {
 public:
  using OnEjection = std::function<void(const std::string& upstream, const std::string& endpoint)>;

  SuccessRateJudge(boost::asio::io_context& io, OnEjection on_ejection);
  ~SuccessRateJudge();

  // Judges these from now on. An upstream that stays goes on with its interval.
  void follow(std::shared_ptr<const ClusterSet> clusters);

 private:
  struct Watch;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
