// What has been used of a virtual key's limits. Shared by all workers and all policies; one word a
// limit, like the limits of the policy (policy/limits_rate.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/ai/proxy/virtual_keys.h"

namespace sluice::gateway::ai {

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
  // All of the key's limits, or none: what one refuses uses up no other. `now_ns`: monotonic.
  std::optional<KeyRefusal> admit(const VirtualKey& key, std::uint64_t tokens,
                                  std::uint64_t now_ns);
  // What was estimated is taken back, and what was used is counted instead. An answer may use more
  // than was left: then the next ones wait.
  void settle(const VirtualKey& key, std::uint64_t estimate, std::uint64_t used);

  KeyRate requests(const VirtualKey& key, std::uint64_t now_ns) const;
  KeyRate tokens(const VirtualKey& key, std::uint64_t now_ns) const;  // per minute

 private:
  std::atomic<std::uint64_t> requests_{0};  // theoretical arrival times
  std::atomic<std::uint64_t> minute_{0};
  std::atomic<std::uint64_t> day_{0};
};

}  // namespace sluice::gateway::ai
