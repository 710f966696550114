// Virtual keys: what callers show instead of a vendor's key, and what goes with each. The file has
// their hashes alone; whoever made a key has seen it once.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config/ai.h"

namespace sluice::gateway::ai {

// What each begins with, so that people and scanners of secrets tell them from vendors' keys.
inline constexpr std::string_view kVirtualKeyPrefix = "sk-sluice-";

struct VirtualKey {
  std::string id;     // public: "k7f3a9c01"
  std::string name;   // what people call it; of one among all
  std::string owner;  // "": nobody in particular
  std::string team;
  std::array<std::uint8_t, 32> sha256{};
  std::vector<std::string> models;        // a `*` at the end stands for anything; empty: all
  std::int64_t created = 0;               // Unix time
  std::int64_t expires = 0;               // likewise; 0: never
  std::uint64_t requests_per_minute = 0;  // 0: no limit, as for those that follow
  std::uint64_t tokens_per_minute = 0;
  std::uint64_t tokens_per_day = 0;
  std::int64_t budget = 0;  // millionths of a US dollar per period
  policy::AiPeriod period = policy::AiPeriod::month;

  bool may_use(std::string_view model) const;
  bool has_rates() const {
    return requests_per_minute > 0 || tokens_per_minute > 0 || tokens_per_day > 0;
  }
  // Something is counted that only an answer's usage tells.
  bool is_metered() const { return tokens_per_minute > 0 || tokens_per_day > 0 || budget > 0; }
};

std::array<std::uint8_t, 32> hash_of_key(std::string_view key);

// The file's text. The error says what is wrong with it.
std::expected<std::vector<VirtualKey>, std::string> parse_keys(std::string_view text);
std::string write_keys(const std::vector<VirtualKey>& keys);

}  // namespace sluice::gateway::ai
