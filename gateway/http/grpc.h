// What the gateway has to know of gRPC over HTTP/2: where its status is, its deadline, and how it
// says no. Pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/http1/field.h"

namespace sluice::gateway::http::grpc {

inline constexpr int kStatuses = 17;  // 0 (OK) to 16 (UNAUTHENTICATED)
inline constexpr int kNoStatus = -1;  // the call has ended without one
inline constexpr int kCancelled = 1;
inline constexpr int kUnknown = 2;
inline constexpr int kDeadlineExceeded = 4;
inline constexpr int kResourceExhausted = 8;
inline constexpr int kInternal = 13;
inline constexpr int kUnavailable = 14;
inline constexpr int kDataLoss = 15;
inline constexpr int kUnauthenticated = 16;

// "application/grpc", with or without "+proto" and parameters; not grpc-web, which is plain HTTP.
bool is_content_type(std::string_view value);

// grpc-timeout: at most 8 digits, not 0, and a unit (H, M, S, m, u, n).
std::optional<std::chrono::nanoseconds> parse_timeout(std::string_view value);

// grpc-status among field lines with CRLF (trailers), or in a head that is all there is
// (Trailers-Only). Nullopt: not there. Outside 0 to 16: UNKNOWN.
std::optional<int> status_of(std::string_view lines);
std::optional<int> status_of(const http1::FieldTable& fields);

// For an answer of our own.
int status_for(int http_status);
// The other way round: what the same thing is called in HTTP, for those who judge by that.
int http_status_for(int status);
// The condition of `retry_on` that it meets (policy::RetryOn); 0: none.
std::uint32_t retry_condition(int status);
// grpc-message: percent-encoded.
std::string message_of(std::string_view text);

}  // namespace sluice::gateway::http::grpc
