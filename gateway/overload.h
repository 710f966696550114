// Whether the gateway has more to do than it should: new work is refused early, and what runs goes
// on.
#pragma once

#include <atomic>
#include <cstdint>

#include "policy/config/overload.h"

namespace sluice::gateway {

enum class Pressure : std::uint8_t { none, connections, memory };

// Shared by all workers. Any thread; counts change with connections only, not with requests.
class OverloadGuard {
 public:
  void configure(const policy::Overload& config);
  // Looks at this process's memory. Control thread, a few times a second.
  void look_at_memory();

  void connection_opened() { open_.fetch_add(1, std::memory_order_relaxed); }
  void connection_closed() { open_.fetch_sub(1, std::memory_order_relaxed); }
  // No further connection may be accepted.
  bool full() const {
    const std::uint32_t most = max_connections_.load(std::memory_order_relaxed);
    return most != 0 && open_.load(std::memory_order_relaxed) >= most;
  }
  // `open` of at most `most` connections of the listener that asks.
  Pressure pressure(std::uint32_t open, std::uint32_t most) const {
    if (memory_high_.load(std::memory_order_relaxed)) return Pressure::memory;
    const std::uint32_t percent = shed_percent_.load(std::memory_order_relaxed);
    const std::uint32_t all = max_connections_.load(std::memory_order_relaxed);
    const bool crowded = over(open, most, percent) ||
                         (all != 0 && over(open_.load(std::memory_order_relaxed), all, percent));
    return crowded ? Pressure::connections : Pressure::none;
  }
  std::uint64_t retry_after() const { return retry_after_.load(std::memory_order_relaxed); }

 private:
  // More than the share of it, rounded up: one of one is not a crowd.
  static bool over(std::uint32_t open, std::uint32_t most, std::uint32_t percent) {
    return open > (std::uint64_t{most} * percent + 99) / 100;
  }

  std::atomic<std::uint32_t> open_{0};
  std::atomic<std::uint32_t> max_connections_{0};
  std::atomic<std::uint64_t> max_memory_{0};
  std::atomic<std::uint32_t> shed_percent_{95};
  std::atomic<std::uint64_t> retry_after_{1};
  std::atomic<bool> memory_high_{false};
};

}  // namespace sluice::gateway
