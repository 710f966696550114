// Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
// NSDI 2016, section 3.4), weighted as Envoy does it: one table look-up, even shares, and few
// values that move when endpoints come and go.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::policy {

// Immutable after its construction; made once per set of endpoints, off the hot path (a few
// milliseconds).
class MaglevTable {
 public:
  static constexpr std::uint32_t kSize = 65'537;  // prime, and 100 times as many as are usual

  struct Entry {
    std::string_view name;  // of the endpoint: its place is the same wherever it stands in the list
    std::uint32_t weight = 1;    // 0: left out
    std::uint32_t endpoint = 0;  // what look-ups return; at most 65,534
  };
  explicit MaglevTable(std::span<const Entry> entries);

  bool empty() const { return slots_.empty(); }
  // The endpoint that `hash` belongs to, among those that `allowed(endpoint)`: where the first one
  // is not, those of the following slots, so that only its own values move. nullopt: none is.
  template <typename Allowed>
  std::optional<std::uint32_t> find(std::uint64_t hash, Allowed allowed) const {
    if (slots_.empty()) return std::nullopt;
    auto slot = static_cast<std::uint32_t>(hash % kSize);
    for (std::uint32_t looked = 0; looked < kSize; ++looked) {
      if (allowed(slots_[slot])) return slots_[slot];
      if (++slot == kSize) slot = 0;
    }
    return std::nullopt;
  }

 private:
  std::vector<std::uint16_t> slots_;
};

// For look-ups: of a header's or a cookie's value, or an address' bytes. The same on all nodes.
std::uint64_t balancing_hash(std::string_view value);

}  // namespace sluice::policy
