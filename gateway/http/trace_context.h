// W3C Trace Context (https://www.w3.org/TR/trace-context/), and ids of requests. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sluice::gateway::http {

struct TraceParent {
  std::string_view trace_id;   // 32 hexadecimal digits, not all zero
  std::string_view parent_id;  // 16 of them, the same
  bool sampled = false;
};

// nullopt: not a traceparent of version 00, or of a later one that begins like it (section 3.2.4).
std::optional<TraceParent> parse_traceparent(std::string_view field);

// Of 16 hexadecimal digits.
std::uint64_t span_id_of(std::string_view digits);

inline constexpr std::size_t kTraceParentSize = 55;
// "00-<trace>-<span>-01". `trace_id`: 32 digits.
void write_traceparent(std::string_view trace_id, std::uint64_t span, bool sampled,
                       std::span<char, kTraceParentSize> out);

inline constexpr std::size_t kTraceIdSize = 32;
void write_trace_id(std::uint64_t high, std::uint64_t low, std::span<char, kTraceIdSize> out);

// A random UUID (RFC 9562 section 5.4) of two random numbers.
inline constexpr std::size_t kUuidSize = 36;
void write_uuid(std::uint64_t high, std::uint64_t low, std::span<char, kUuidSize> out);

// What we take of others: visible, short, and without what logs and fields give a meaning to.
inline constexpr std::size_t kMaxRequestId = 64;
bool is_request_id(std::string_view text);

}  // namespace sluice::gateway::http
