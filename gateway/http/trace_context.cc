#include "gateway/http/trace_context.h"

#include <algorithm>
#include <bit>
#include <cstring>

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

// Eight digits at once: each nibble to an octet of its own, then letters where it is above 9.
char* write_hex(std::uint32_t value, char* out) {
  std::uint64_t octets = value;
  octets = (octets | octets << 16) & 0x0000ffff0000ffff;
  octets = (octets | octets << 8) & 0x00ff00ff00ff00ff;
  octets = (octets | octets << 4) & 0x0f0f0f0f0f0f0f0f;
  const std::uint64_t letters = (octets + 0x0606060606060606) >> 4 & 0x0101010101010101;
  octets += 0x3030303030303030 + letters * ('a' - '0' - 10);
  if constexpr (std::endian::native == std::endian::little) octets = __builtin_bswap64(octets);
  std::memcpy(out, &octets, sizeof octets);
  return out + sizeof octets;
}

char* write_hex(std::uint64_t value, char* out) {
  return write_hex(static_cast<std::uint32_t>(value),
                   write_hex(static_cast<std::uint32_t>(value >> 32), out));
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
  constexpr std::uint64_t kVersion = std::uint64_t{4} << 12, kVersionBits = std::uint64_t{15} << 12;
  constexpr std::uint64_t kVariant = std::uint64_t{2} << 62, kVariantBits = std::uint64_t{3} << 62;
  std::array<char, 32> digits;
  write_hex((low & ~kVariantBits) | kVariant,
            write_hex((high & ~kVersionBits) | kVersion, digits.data()));
  char* at = out.data();
  const char* from = digits.data();
  for (const std::size_t group : {8U, 4U, 4U, 4U, 12U}) {
    if (at != out.data()) *at++ = '-';
    std::memcpy(at, from, group);
    at += group;
    from += group;
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
