#include "gateway/metrics_page.h"

#include <algorithm>
#include <limits>

#include "gateway/log.h"

namespace sluice::gateway {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

bool is_name(std::string_view text, bool colon) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return std::ranges::all_of(text, [colon](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (colon && c == ':');
  });
}

bool is_readable(const MetricSample& sample) {
  return is_name(sample.name, true) && std::ranges::all_of(sample.labels, [](const auto& label) {
           return is_name(label.first, false);
         });
}

}  // namespace

void HistogramSum::add(const DurationHistogram& histogram) {
  for (std::size_t i = 0; i < buckets.size(); ++i)
    buckets[i] += histogram.bucket(i);
  sum_ns += histogram.sum_ns();
}

bool HistogramSum::empty() const {
  return std::ranges::all_of(buckets, [](std::uint64_t n) { return n == 0; });
}

MetricFamily& MetricsPage::family(std::string_view name, std::string_view help, MetricType type) {
  if (const auto found = by_name_.find(name); found != by_name_.end()) {
    return families_[found->second];
  }
  by_name_.emplace(name, families_.size());
  MetricFamily& added = families_.emplace_back();
  added.name = name;
  added.help = help;
  added.type = type;
  return added;
}

ClientMetric& MetricsPage::add(const MetricInfo& info, MetricType type, Values labels) {
  ClientMetric& metric = family(info.name, info.help, type).metric.emplace_back();
  metric.label.reserve(labels.size());
  const std::string_view* name = info.labels.data();
  for (const std::string_view value : labels)
    metric.label.push_back({std::string(*name++), std::string(value)});
  return metric;
}

void MetricsPage::counter(const MetricInfo& info, Values labels, std::uint64_t value) {
  add(info, MetricType::Counter, labels).counter.value = static_cast<double>(value);
}

void MetricsPage::gauge(const MetricInfo& info, Values labels, double value) {
  add(info, MetricType::Gauge, labels).gauge.value = value;
}

void MetricsPage::histogram(const MetricInfo& info, Values labels, const HistogramSum& sum) {
  if (sum.empty()) return;
  auto& out = add(info, MetricType::Histogram, labels).histogram;
  out.bucket.reserve(sum.buckets.size());
  for (std::size_t i = 0; i < sum.buckets.size(); ++i) {
    out.sample_count += sum.buckets[i];
    const double bound = i < kDurationBounds.size() ? static_cast<double>(kDurationBounds[i]) / 1e9
                                                    : std::numeric_limits<double>::infinity();
    out.bucket.push_back({out.sample_count, bound});
  }
  out.sample_sum = static_cast<double>(sum.sum_ns) / 1e9;
}

void MetricsPage::histogram(std::string_view name, std::string_view help,
                            const std::vector<std::pair<std::string, std::string>>& labels,
                            std::span<const double> bounds, std::span<const std::uint64_t> counts,
                            double sum) {
  if (std::ranges::all_of(counts, [](std::uint64_t n) { return n == 0; })) return;
  ClientMetric& metric = family(name, help, MetricType::Histogram).metric.emplace_back();
  for (const auto& [label, value] : labels)
    metric.label.push_back({label, value});
  for (std::size_t i = 0; i < counts.size(); ++i) {
    metric.histogram.sample_count += counts[i];
    metric.histogram.bucket.push_back(
        {metric.histogram.sample_count,
         i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity()});
  }
  metric.histogram.sample_sum = sum;
}

void MetricsPage::sample(const MetricSample& sample) {
  const MetricType type =
      sample.type == SampleType::counter ? MetricType::Counter : MetricType::Gauge;
  if (!is_readable(sample)) {
    log_warn("metrics", "sample left out: not a name that Prometheus reads",
             {{"name", sample.name}});
    return;
  }
  MetricFamily& into = family(sample.name, sample.help, type);
  if (into.type != type) {
    log_warn("metrics", "sample left out: its family has another type", {{"name", sample.name}});
    return;
  }
  ClientMetric& metric = into.metric.emplace_back();
  for (const auto& [name, value] : sample.labels)
    metric.label.push_back({name, value});
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = sample.value;
}

std::vector<MetricFamily> MetricsPage::take() {
  by_name_.clear();
  return std::exchange(families_, {});
}

}  // namespace sluice::gateway
