// The keeper's part of the metrics page.
#pragma once

#include <string>
#include <vector>

#include "gateway/metrics_samples.h"
#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"

namespace sluice::control {

class KeeperSamples {
 public:
  void add(std::vector<kernel::Sample> samples);
  void add(std::vector<gateway::MetricSample> samples);
  void counter(const char* name, double value, const char* help) { add(name, value, true, help); }
  void gauge(const char* name, double value, const char* help) { add(name, value, false, help); }

  std::vector<kernel::protocol::KernelSample> take() { return std::move(samples_); }

 private:
  void add(const char* name, double value, bool counter, const char* help);

  std::vector<kernel::protocol::KernelSample> samples_;
};

}  // namespace sluice::control
