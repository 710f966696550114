// Builds the families of the metrics page out of the workers' counters and of samples from
// elsewhere.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <prometheus/metric_family.h>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/metrics_catalog.h"
#include "gateway/metrics_counters.h"
#include "gateway/metrics_samples.h"

namespace sluice::gateway {

// The sum of one histogram over all workers.
struct HistogramSum {
  std::array<std::uint64_t, kDurationBounds.size() + 1> buckets{};
  std::uint64_t sum_ns = 0;
  void add(const DurationHistogram& histogram);
  bool empty() const;
};

// Collects families in the order of their first use.
class MetricsPage {
 public:
  // The values of the metric's labels, in the catalogue's order.
  using Values = std::initializer_list<std::string_view>;

  void counter(const MetricInfo& info, Values labels, std::uint64_t value);
  void gauge(const MetricInfo& info, Values labels, double value);
  // Nothing where nothing was observed yet: two dozen lines for each object that is never used.
  void histogram(const MetricInfo& info, Values labels, const HistogramSum& sum);
  // The same with bounds and labels of its own; `counts` has one more than `bounds`.
  void histogram(std::string_view name, std::string_view help,
                 const std::vector<std::pair<std::string, std::string>>& labels,
                 std::span<const double> bounds, std::span<const std::uint64_t> counts, double sum);
  // Left out, with a log line, when its name or a label's is not one that Prometheus reads, or its
  // type is not its family's.
  void sample(const MetricSample& sample);

  std::vector<prometheus::MetricFamily> take();

 private:
  prometheus::MetricFamily& family(std::string_view name, std::string_view help,
                                   prometheus::MetricType type);
  prometheus::ClientMetric& add(const MetricInfo& info, prometheus::MetricType type, Values labels);

  std::vector<prometheus::MetricFamily> families_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace sluice::gateway
