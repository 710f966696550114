#include "gateway/http/trace_context.h"

#include <algorithm>

namespace sluice::gateway::http {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::size_t kSpanIdSize = 16;

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');  // upper case is not allowed
  });
}

bool is_id(std::string_view text) {
  return is_hex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

char* write_hex(std::uint64_t value, char* out) {
  for (int shift = 60; shift >= 0; shift -= 4)
    *out++ = kDigits[value >> shift & 15];
  return out;
}

}  // namespace

std::optional<TraceParent> parse_traceparent(std::string_view field) {
  if (field.size() < kTraceParentSize) return std::nullopt;
  const std::string_view version = field.substr(0, 2);
  if (!is_hex(version) || version == "ff") return std::nullopt;
  const bool longer = field.size() > kTraceParentSize;
  if (longer && (version == "00" || field[kTraceParentSize] != '-')) return std::nullopt;
  if (field[2] != '-' || field[35] != '-' || field[52] != '-') return std::nullopt;
  const std::string_view trace_id = field.substr(3, kTraceIdSize);
  const std::string_view parent_id = field.substr(36, kSpanIdSize);
  const std::string_view flags = field.substr(53, 2);
  if (!is_id(trace_id) || !is_id(parent_id) || !is_hex(flags)) return std::nullopt;
  return TraceParent{trace_id, parent_id, (kDigits.find(flags[1]) & 1) != 0};
}

std::uint64_t span_id_of(std::string_view digits) {
  std::uint64_t id = 0;
  for (const char digit : digits)
    id = id << 4 | kDigits.find(digit);
  return id;
}

void write_traceparent(std::string_view trace_id, std::uint64_t span, bool sampled,
                       std::span<char, kTraceParentSize> out) {
  char* at = std::ranges::copy(std::string_view("00-"), out.data()).out;
  at = std::ranges::copy(trace_id.substr(0, kTraceIdSize), at).out;
  *at++ = '-';
  at = write_hex(span == 0 ? 1 : span, at);
  std::ranges::copy(std::string_view(sampled ? "-01" : "-00"), at);
}

void write_trace_id(std::uint64_t high, std::uint64_t low, std::span<char, kTraceIdSize> out) {
  write_hex(low == 0 ? 1 : low, write_hex(high, out.data()));
}

void write_uuid(std::uint64_t high, std::uint64_t low, std::span<char, kUuidSize> out) {
  std::array<char, 32> digits;
  write_hex(low, write_hex(high, digits.data()));
  digits[12] = '4';
  digits[16] = kDigits[8 | (low >> 60 & 3)];
  char* at = out.data();
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) *at++ = '-';
    *at++ = digits[i];
  }
}

bool is_request_id(std::string_view text) {
  constexpr std::string_view kOthers = "-._~+/=:";
  return !text.empty() && text.size() <= kMaxRequestId && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

}  // namespace sluice::gateway::http
