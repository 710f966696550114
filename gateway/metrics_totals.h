// What was counted of an object, for people rather than for Prometheus.
#pragma once

#include <cstdint>
#include <string>

namespace sluice::gateway {

struct RouteTotals {
  std::string listener;
  std::string name;  // as in metrics and logs
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;  // of them answered with 5xx
  double seconds = 0;        // spent on them, all together
};

}  // namespace sluice::gateway
