#include "policy/units.h"

#include <array>
#include <charconv>
#include <limits>

namespace sluice::policy {

namespace {

struct TimeUnit {
  std::string_view name;
  std::int64_t nanoseconds;
};
constexpr std::array kTimeUnits{TimeUnit{"us", 1'000}, TimeUnit{"ms", 1'000'000},
                                TimeUnit{"s", 1'000'000'000}, TimeUnit{"m", 60'000'000'000},
                                TimeUnit{"h", 3'600'000'000'000},
                                TimeUnit{"d", 86'400'000'000'000}};

struct SizeUnit {
  std::string_view name;
  std::int64_t bytes;
};
constexpr std::array kSizeUnits{SizeUnit{"B", 1}, SizeUnit{"KiB", 1 << 10},
                                SizeUnit{"MiB", 1 << 20}, SizeUnit{"GiB", 1 << 30}};

struct IpProtocol {
  std::string_view name;
  std::uint8_t number;  // IANA "Assigned Internet Protocol Numbers"
};
constexpr std::array kIpProtocols{IpProtocol{"tcp", 6}, IpProtocol{"udp", 17},
                                  IpProtocol{"sctp", 132}, IpProtocol{"icmp", 1},
                                  IpProtocol{"icmpv6", 58}};

std::optional<std::int64_t> parse_digits(std::string_view digits, int base) {
  if (digits.empty() || digits[0] == '-') return std::nullopt;
  std::int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stopped, error] = std::from_chars(digits.data(), end, value, base);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return value;
}

std::optional<std::int64_t> unit_of(std::string_view name) {
  for (const TimeUnit& unit : kTimeUnits) {
    if (unit.name == name) return unit.nanoseconds;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text) {
  if (text.starts_with("0x")) return parse_digits(text.substr(2), 16);
  if (text.size() > 1 && text[0] == '0') return std::nullopt;  // octal to some, decimal to others
  return parse_digits(text, 10);
}

std::optional<double> parse_number(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789.") != std::string_view::npos) {
    return std::nullopt;
  }
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return value;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::optional<Duration> parse_duration(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto count = parse_integer(text.substr(0, digits));
  const auto unit = unit_of(text.substr(digits));
  if (!count || !unit || *count > std::numeric_limits<std::int64_t>::max() / *unit) {
    return std::nullopt;
  }
  return Duration(*count * *unit);
}

std::optional<Rate> parse_rate(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto count = parse_integer(text.substr(0, slash));
  const std::string_view per = text.substr(slash + 1);
  if (!count || *count == 0 || (per != "s" && per != "m" && per != "h" && per != "d")) return std::nullopt;
  return Rate{static_cast<std::uint64_t>(*count), Duration(*unit_of(per))};
}

std::optional<std::uint32_t> parse_percent(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  const auto value = parse_integer(text.substr(0, text.size() - 1));
  if (!value || *value > 100) return std::nullopt;
  return static_cast<std::uint32_t>(*value);
}

std::optional<double> parse_share(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  const auto percent = parse_number(text.substr(0, text.size() - 1));
  if (!percent || *percent > 100) return std::nullopt;
  return *percent / 100;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto count = parse_integer(text.substr(0, digits));
  for (const SizeUnit& unit : kSizeUnits) {
    if (unit.name != text.substr(digits)) continue;
    if (!count || *count > std::numeric_limits<std::int64_t>::max() / unit.bytes) break;
    return static_cast<std::uint64_t>(*count * unit.bytes);
  }
  return std::nullopt;
}

std::optional<std::uint8_t> parse_ip_protocol(std::string_view text) {
  for (const IpProtocol& protocol : kIpProtocols) {
    if (protocol.name == text) return protocol.number;
  }
  const auto number = parse_integer(text);
  if (!number || *number > 255) return std::nullopt;
  return static_cast<std::uint8_t>(*number);
}

// In hours at most: `36h` and `48h` are easier to compare than `36h` and `2d`.
std::string format_duration(Duration duration) {
  std::string best = "0s";
  for (const TimeUnit& unit : kTimeUnits) {
    if (unit.name == "d") break;
    if (duration.count() != 0 && duration.count() % unit.nanoseconds == 0) {
      best = std::to_string(duration.count() / unit.nanoseconds) + std::string(unit.name);
    }
  }
  return best;
}

std::string format_size(std::uint64_t bytes) {
  std::string best = "0B";
  for (const SizeUnit& unit : kSizeUnits) {
    const auto size = static_cast<std::uint64_t>(unit.bytes);
    if (bytes != 0 && bytes % size == 0) {
      best = std::to_string(bytes / size) + std::string(unit.name);
    }
  }
  return best;
}

}  // namespace sluice::policy
