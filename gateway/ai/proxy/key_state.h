// What has been used of a virtual key's limits. Shared by all workers and all policies; one word a
// limit, like the limits of the policy (policy/limits_rate.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/ai/proxy/virtual_keys.h"

namespace sluice::gateway::ai {

// What a request takes, as estimated on its way in and as it turned out.
struct Cost {
  std::uint64_t tokens = 0;
  std::int64_t micros = 0;  // millionths of a US dollar
};

struct KeyRefusal {
  std::string_view limit;            // "requests per minute"
  std::uint64_t retry_after_ns = 0;  // 0: nobody knows
};

// For x-ratelimit-…
struct KeyRate {
  std::uint64_t limit = 0;  // 0: there is none
  std::uint64_t remaining = 0;
  std::uint64_t reset_ns = 0;
};

// Any thread.
class KeyState {
 public:
  // All of the key's limits, or none: what one refuses uses up no other. `now_ns`: monotonic;
  // `unix_seconds`: for budgets, which follow the calendar.
  std::optional<KeyRefusal> admit(const VirtualKey& key, const Cost& estimate, std::uint64_t now_ns,
                                  std::int64_t unix_seconds);
  // What was estimated is taken back, and what was used is counted instead. An answer may use more
  // than was left: then the next ones wait.
  void settle(const VirtualKey& key, const Cost& estimate, const Cost& used,
              std::int64_t unix_seconds);

  KeyRate requests(const VirtualKey& key, std::uint64_t now_ns) const;
  KeyRate tokens(const VirtualKey& key, std::uint64_t now_ns) const;  // per minute
  std::int64_t spent(const VirtualKey& key, std::int64_t unix_seconds) const;
  // What was spent before this process began.
  void restore(const VirtualKey& key, std::int64_t spent, std::int64_t unix_seconds);

 private:
  std::int64_t spent_in(std::int64_t period) const;
  std::int64_t spend(std::int64_t period, std::int64_t micros);  // what is spent then

  std::atomic<std::uint64_t> requests_{0};  // theoretical arrival times
  std::atomic<std::uint64_t> minute_{0};
  std::atomic<std::uint64_t> day_{0};
  std::atomic<std::int64_t> period_{0};  // that `spent_` is of
  std::atomic<std::int64_t> spent_{0};
};

}  // namespace sluice::gateway::ai
