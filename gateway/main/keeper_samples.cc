#include "gateway/main/keeper_samples.h"

#include <utility>

namespace sluice::control {

void KeeperSamples::add(std::vector<kernel::Sample> samples) {
  for (auto& sample : samples)
    samples_.push_back({.name = std::move(sample.name),
                        .labels = std::move(sample.labels),
                        .value = sample.value,
                        .counter = sample.counter,
                        .help = std::move(sample.help)});
}

void KeeperSamples::add(std::vector<gateway::MetricSample> samples) {
  for (auto& sample : samples)
    samples_.push_back({.name = std::move(sample.name),
                        .labels = std::move(sample.labels),
                        .value = sample.value,
                        .counter = sample.type == gateway::SampleType::counter,
                        .help = std::move(sample.help)});
}

void KeeperSamples::add(const char* name, double value, bool counter, const char* help) {
  samples_.push_back(
      {.name = name, .labels = {}, .value = value, .counter = counter, .help = help});
}

}  // namespace sluice::control
