// Passive health: endpoints that fail in a row are left out for a while (Envoy: outlier detection).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gateway/upstream/endpoint.h"
#include "policy/config.h"

namespace sluice::gateway {

// Rules, for the endpoints of one cluster. Any thread; no state but the endpoints' own.
//
// An ejection lasts base_ejection_time × the number of ejections in a row (at most 300 s or base,
// whichever is longer), then the endpoint is tried again. No more than max_ejection_percent of the
// endpoints are out at a time, but one may always be out when there are two or more (unless the
// percentage is 0); a lone endpoint is never ejected. Resets and timeouts count as 5xx.
class OutlierDetector {
 public:
  explicit OutlierDetector(const policy::OutlierDetection& config) : config_(config) {}

  // True when this outcome ejected the endpoint.
  bool report(Endpoint& endpoint, std::span<const std::shared_ptr<Endpoint>> all, Outcome outcome,
              std::chrono::steady_clock::time_point now) const;

  // For the judgement of success rates: within the same bounds as the others.
  bool eject_for_success_rate(Endpoint& endpoint, std::span<const std::shared_ptr<Endpoint>> all,
                              std::chrono::steady_clock::time_point now) const;

  // The active check reached it: an ejection for connect failures ends.
  static void reached(Endpoint& endpoint);

 private:
  void forgive(Endpoint& endpoint, std::chrono::steady_clock::time_point now) const;
  bool eject(Endpoint& endpoint, std::span<const std::shared_ptr<Endpoint>> all, bool for_connect,
             std::chrono::steady_clock::time_point now) const;

  policy::OutlierDetection config_;
};

}  // namespace sluice::gateway
