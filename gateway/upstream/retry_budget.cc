#include "gateway/upstream/retry_budget.h"

#include <algorithm>

namespace sluice::gateway {

bool RetryBudget::try_begin_retry(std::uint32_t percent, std::uint32_t max) {
  const auto share = static_cast<std::uint32_t>(std::uint64_t{active_requests()} * percent / 100);
  const std::uint32_t budget = std::max(kMinimum, share);
  const std::uint32_t allowed = max == 0 ? budget : std::min(budget, max);
  if (active_retries_.fetch_add(1, std::memory_order_relaxed) >= allowed) {
    active_retries_.fetch_sub(1, std::memory_order_relaxed);
    refused_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  retries_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace sluice::gateway
