// What the sections of the table share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "policy/schema.h"

namespace sluice::policy::fields {

using enum Type;
using enum Shape;

inline constexpr std::int64_t kMs = 1'000'000;
inline constexpr std::int64_t kSecond = 1'000 * kMs;
inline constexpr std::int64_t kMinute = 60 * kSecond;
inline constexpr std::int64_t kHour = 60 * kMinute;
inline constexpr std::int64_t kDay = 24 * kHour;
inline constexpr std::int64_t kMaxU32 = 0xffffffff;

// Where addresses are named: prefixes, sets, or both.
inline constexpr Field kAddresses[] = {
    {.name = "cidr",
     .type = prefix,
     .example = "198.51.100.0/24",
     .excludes = "set",
     .doc = "An address or prefix."},
    {.name = "set",
     .type = name,
     .example = "blocklist",
     .refers = "sets",
     .excludes = "cidr",
     .doc = "All that a set holds."},
};

inline constexpr std::array<std::string_view, 1> kAuto{"auto"};
inline constexpr std::array<std::string_view, 1> kOriginalDestinationWord{kOriginalDestination};

}  // namespace sluice::policy::fields
