// Retries in proportion to the load, so that they never become the load (Envoy: retry budgets;
// Finagle).
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice::gateway {

// Of one cluster, for all workers. Any thread.
class RetryBudget {
 public:
  static constexpr std::uint32_t kMinimum = 3;  // retries at a time that are always allowed

  void request_begun() { active_requests_.fetch_add(1, std::memory_order_relaxed); }
  void request_ended() { active_requests_.fetch_sub(1, std::memory_order_relaxed); }

  // True: a retry may start; call retry_ended() once when it has ended. `percent` of the active
  // requests, 0 to 100, kMinimum at least; never more than `max` (0: no such bound).
  bool try_begin_retry(std::uint32_t percent, std::uint32_t max = 0);
  void retry_ended() { active_retries_.fetch_sub(1, std::memory_order_relaxed); }

  std::uint32_t active_requests() const { return active_requests_.load(std::memory_order_relaxed); }
  std::uint32_t active_retries() const { return active_retries_.load(std::memory_order_relaxed); }
  std::uint64_t retries() const { return retries_.load(std::memory_order_relaxed); }
  std::uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> active_requests_{0};
  std::atomic<std::uint32_t> active_retries_{0};
  std::atomic<std::uint64_t> retries_{0};
  std::atomic<std::uint64_t> refused_{0};
};

}  // namespace sluice::gateway
