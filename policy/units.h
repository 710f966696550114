// Quantities as policies write them. Strict: a number without its unit is not a quantity, and
// nothing is rounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy/config.h"

namespace sluice::policy {

struct Rate {
  std::uint64_t count = 0;
  Duration period{};
};

// Whole, decimal or 0x hexadecimal; no sign, no leading zeros, no separators. At most 2^63 - 1.
std::optional<std::int64_t> parse_integer(std::string_view text);
std::optional<double> parse_number(std::string_view text);      // "1.5"; digits and one point
std::optional<bool> parse_boolean(std::string_view text);       // true, false and nothing else
std::optional<Duration> parse_duration(std::string_view text);  // us, ms, s, m, h, d: "200ms"
std::optional<Rate> parse_rate(std::string_view text);  // "100/s", "1000/m", "5/h"; not zero
std::optional<std::uint32_t> parse_percent(std::string_view text);  // "20%", 0 to 100
std::optional<double> parse_share(std::string_view text);           // "0.5%", as 0 to 1
std::optional<std::uint64_t> parse_size(std::string_view text);  // "512B", "64KiB", "10MiB", "1GiB"
std::optional<std::uint8_t> parse_ip_protocol(std::string_view text);  // a name or 0 to 255

std::string format_duration(Duration duration);  // the shortest exact form
std::string format_size(std::uint64_t bytes);    // the same

}  // namespace sluice::policy
