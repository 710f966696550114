// What has been used of a virtual key's limits. Shared by all workers and all policies; one word a
// limit, like the limits of the policy (policy/limits_rate.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/ai/proxy/virtual_keys.h"
#include "policy/limits_rate.h"

namespace sluice::gateway::ai {

struct KeyRefusal {
  std::string_view limit;            // "requests per minute"
  std::uint64_t retry_after_ns = 0;  // 0: nobody knows
};

// One of a key's limits, as all of them are: GCRA over its period.
struct KeyLimit {
  std::string_view name;  // "requests per minute"
  std::string_view word;  // "requests"
  std::uint64_t count = 0;  // 0: there is none
  policy::GcraParameters gcra = {};
  std::uint64_t cost = 0;  // of a call; never more than the count
};
std::array<KeyLimit, 3> key_limits(const VirtualKey& key, std::uint64_t tokens);
// The same limits, for one of `gateways` that cannot ask each other.
VirtualKey share_of(const VirtualKey& key, std::uint32_t gateways);

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
  void settle(const VirtualKey& key, std::uint64_t estimate, std::uint64_t used,
              std::uint64_t now_ns);
  // What others have let in is counted here too, whatever is left.
  void charge(const VirtualKey& key, std::uint64_t tokens, std::uint64_t now_ns);

  // How far each of the key's limits has run ahead, by what was let in here.
  std::array<std::uint64_t, 3> ahead_ns(std::uint64_t now_ns) const;
  KeyRate requests(const VirtualKey& key, std::uint64_t now_ns) const;
  KeyRate tokens(const VirtualKey& key, std::uint64_t now_ns) const;  // per minute

 private:
  std::array<std::atomic<std::uint64_t>, 3> tats_{};  // theoretical arrival times
};

}  // namespace sluice::gateway::ai
