#include "gateway/ai/proxy/rate_limit_rest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/ai/error_body.h"
#include "gateway/http1/retry_after.h"

namespace sluice::gateway::ai {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Rest = std::optional<milliseconds>;

constexpr double kLongest = 365.0 * 24 * 3600;  // seconds; what is longer is as long

Rest of_seconds(double amount) {
  if (!(amount > 0)) return std::nullopt;
  return milliseconds(static_cast<std::int64_t>(std::min(amount, kLongest) * 1000));
}

std::optional<double> take_number(std::string_view& text) {
  double number = 0;
  const auto read =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (read.ec != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  return number;
}

// "6m0s", "120ms", "1.5s"; a plain number is of seconds.
Rest duration(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 5> kUnits{
      {{"ms", 0.001}, {"s", 1.0}, {"m", 60.0}, {"h", 3600.0}, {"d", 86400.0}}};
  double total = 0;
  while (!text.empty()) {
    const auto number = take_number(text);
    if (!number) return std::nullopt;
    if (text.empty()) {
      total += *number;
      break;
    }
    const auto unit =
        std::ranges::find_if(kUnits, [&](const auto& one) { return text.starts_with(one.first); });
    if (unit == kUnits.end()) return std::nullopt;
    total += *number * unit->second;
    text.remove_prefix(unit->first.size());
  }
  return of_seconds(total);
}

// "2026-11-30T20:05:00Z" (RFC 3339, as vendors write it), or a duration.
Rest reset_in(std::string_view text, std::int64_t now) {
  std::tm date{};
  const std::string copy(text);
  const char* const rest = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &date);
  if (rest == nullptr) return duration(text);
  if (!std::string_view(rest).ends_with('Z') && !std::string_view(rest).ends_with("+00:00"))
    return std::nullopt;
  return of_seconds(static_cast<double>(::timegm(&date) - now));
}

struct LimitFields {
  std::string_view remaining;
  std::string_view reset;
};
constexpr std::array kLimits{
    LimitFields{"x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
    LimitFields{"x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
    LimitFields{"anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"},
    LimitFields{"anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"},
    LimitFields{"anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset"},
    LimitFields{"anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset"},
};

}  // namespace

Rest rest_said(const http1::ResponseHead& response, std::int64_t now) {
  const http1::FieldTable& fields = response.fields();
  std::string_view exact = fields.first("retry-after-ms");
  if (const auto amount = take_number(exact); amount && exact.empty())
    if (const Rest rest = of_seconds(*amount / 1000)) return rest;
  const std::string_view text = fields.first(http1::KnownField::retry_after);
  if (const auto rest = http1::parse_retry_after(text, now); rest && rest->count() > 0)
    return *rest;
  Rest longest;
  for (const LimitFields& limit : kLimits) {
    if (fields.first(limit.remaining) != "0") continue;
    const Rest rest = reset_in(fields.first(limit.reset), now);
    if (rest && (!longest || *rest > *longest)) longest = rest;
  }
  return longest;
}

Rest rest_said(const boost::json::value& error) {
  const boost::json::object* fields = error_fields(error);
  const boost::json::value* details = fields != nullptr ? fields->if_contains("details") : nullptr;
  const boost::json::array* list = details != nullptr ? details->if_array() : nullptr;
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const boost::json::object* detail = (*list)[i].if_object();
    const boost::json::value* delay =
        detail != nullptr ? detail->if_contains("retryDelay") : nullptr;
    if (delay != nullptr && delay->is_string()) return duration(delay->get_string());
  }
  return std::nullopt;
}

}  // namespace sluice::gateway::ai
