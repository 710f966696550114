// One object's counters, added up over all workers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gateway/metrics_counters.h"
#include "gateway/metrics_page.h"

namespace sluice::gateway {

template <typename Counters>
class CounterSum {
 public:
  template <typename Slot>
  CounterSum(const std::vector<std::unique_ptr<WorkerMetrics>>& workers, Slot slot, auto table) {
    parts_.reserve(workers.size());
    for (const auto& worker : workers)
      parts_.push_back(&table(*worker).at(slot));
  }

  std::uint64_t operator()(SingleWriterCounter Counters::* field) const {
    return of([field](const Counters& c) -> auto& { return c.*field; });
  }
  template <std::size_t N>
  std::uint64_t operator()(std::array<SingleWriterCounter, N> Counters::* field,
                           std::size_t index) const {
    return of([=](const Counters& c) -> auto& { return (c.*field)[index]; });
  }
  HistogramSum operator()(DurationHistogram Counters::* field) const {
    HistogramSum total;
    for (const Counters* part : parts_)
      total.add(part->*field);
    return total;
  }

 private:
  std::uint64_t of(auto field) const {
    std::uint64_t total = 0;
    for (const Counters* part : parts_)
      total += field(*part).get();
    return total;
  }

  std::vector<const Counters*> parts_;
};

}  // namespace sluice::gateway
