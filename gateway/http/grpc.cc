#include "gateway/http/grpc.h"

#include <algorithm>

#include "gateway/http1/octets.h"
#include "policy/config.h"

namespace sluice::gateway::http::grpc {
namespace {

int parse_status(std::string_view value) {
  if (value.empty() || value.size() > 2 || !http1::all_are(value, http1::kDigit)) return kUnknown;
  int status = 0;
  for (const char c : value)
    status = status * 10 + (c - '0');
  return status < kStatuses ? status : kUnknown;
}

}  // namespace

bool is_content_type(std::string_view value) {
  constexpr std::string_view kType = "application/grpc";
  if (value.size() < kType.size()) return false;
  if (!http1::equals_ignoring_case(value.substr(0, kType.size()), kType)) return false;
  return value.size() == kType.size() || value[kType.size()] == '+' || value[kType.size()] == ';';
}

std::optional<std::chrono::nanoseconds> parse_timeout(std::string_view value) {
  constexpr std::size_t kMaxDigits = 8;
  constexpr std::int64_t kLongest = 24 * 365;  // hours or minutes: as good as none
  if (value.size() < 2 || value.size() > kMaxDigits + 1) return std::nullopt;
  const std::string_view digits = value.substr(0, value.size() - 1);
  if (!http1::all_are(digits, http1::kDigit)) return std::nullopt;
  std::int64_t amount = 0;
  for (const char c : digits)
    amount = amount * 10 + (c - '0');
  if (amount == 0) return std::nullopt;  // it is positive; and to us 0 would be no limit at all
  switch (value.back()) {
    case 'H':
      return std::chrono::hours(std::min(amount, kLongest));
    case 'M':
      return std::chrono::minutes(std::min(amount, kLongest));
    case 'S':
      return std::chrono::seconds(amount);
    case 'm':
      return std::chrono::milliseconds(amount);
    case 'u':
      return std::chrono::microseconds(amount);
    case 'n':
      return std::chrono::nanoseconds(amount);
    default:
      return std::nullopt;
  }
}

std::optional<int> status_of(std::string_view lines) {
  constexpr std::string_view kName = "grpc-status:";
  while (!lines.empty()) {
    const std::size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    if (line.size() >= kName.size() &&
        http1::equals_ignoring_case(line.substr(0, kName.size()), kName)) {
      return parse_status(http1::trim_ows(line.substr(kName.size())));
    }
    if (end == std::string_view::npos) break;
    lines.remove_prefix(end + 2);
  }
  return std::nullopt;
}

std::optional<int> status_of(const http1::FieldTable& fields) {
  const std::string_view value = fields.first("grpc-status");
  return value.empty() ? std::nullopt : std::optional(parse_status(value));
}

int status_for(int http_status) {
  switch (http_status) {
    case 401:
      return kUnauthenticated;
    case 403:
    case 421:
      return 7;  // PERMISSION_DENIED
    case 404:
    case 405:
      return 12;  // UNIMPLEMENTED
    case 408:
    case 504:
      return kDeadlineExceeded;
    case 413:
    case 429:
    case 431:
      return kResourceExhausted;
    case 502:
    case 503:
      return kUnavailable;
    default:
      return http_status >= 400 && http_status < 500 ? kInternal : kUnknown;
  }
}

// UNIMPLEMENTED is no failure of an endpoint's: a caller that asks for what is not there would have
// all of them ejected.
int http_status_for(int status) {
  switch (status) {
    case kUnknown:
    case kInternal:
    case kDataLoss:
      return 500;
    case kUnavailable:
      return 503;
    case kDeadlineExceeded:
      return 504;
    default:
      return 200;
  }
}

std::uint32_t retry_condition(int status) {
  switch (status) {
    case kCancelled:
      return policy::kRetryCancelled;
    case kDeadlineExceeded:
      return policy::kRetryDeadlineExceeded;
    case kResourceExhausted:
      return policy::kRetryResourceExhausted;
    case kInternal:
      return policy::kRetryInternal;
    case kUnavailable:
      return policy::kRetryUnavailable;
    default:
      return 0;
  }
}

std::string message_of(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet >= 0x20 && octet < 0x7f && c != '%') {
      out.push_back(c);
    } else {
      out.append({'%', kHex[octet >> 4], kHex[octet & 15]});
    }
  }
  return out;
}

}  // namespace sluice::gateway::http::grpc
