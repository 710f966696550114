// Samples that other parts (the kernel's side, the process) put on the metrics page.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice::gateway {

enum class SampleType : std::uint8_t { counter, gauge };

// One line of the page. Samples of one name form a family and must agree in type and help (the
// first one's count). Names after Prometheus' conventions: `sluice_…`, base units, counters end in
// `_total`.
struct MetricSample {
  std::string name;
  std::string help;
  SampleType type = SampleType::counter;
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
};

}  // namespace sluice::gateway
