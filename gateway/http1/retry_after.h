// Retry-After (RFC 9110 section 10.2.3).
#pragma once

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {

// Seconds, or a date in its one form that is still made. Bounded: what an origin can write is more
// than nanoseconds can say. `now`: Unix time.
inline std::optional<std::chrono::seconds> parse_retry_after(std::string_view text,
                                                             std::int64_t now) {
  constexpr std::int64_t kLongest = 365 * 24 * 3600;
  if (all_are(text, kDigit)) {
    if (text.empty()) return std::nullopt;
    std::int64_t seconds = kLongest;  // of a number that is too large to be read
    std::from_chars(text.data(), text.data() + text.size(), seconds);
    return std::chrono::seconds(std::min(seconds, kLongest));
  }
  std::tm date{};
  const std::string copy(text);
  if (::strptime(copy.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date) == nullptr) return std::nullopt;
  const std::int64_t seconds = ::timegm(&date) - now;
  return std::chrono::seconds(std::clamp<std::int64_t>(seconds, 0, kLongest));
}

}  // namespace sluice::gateway::http1
