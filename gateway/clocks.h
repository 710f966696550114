#pragma once

#include <chrono>
#include <cstdint>

namespace sluice::gateway {

// Nanoseconds of the steady clock: what limits count in.
inline std::uint64_t steady_now() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

// Seconds since 1970: what certificates, tokens and keys count in.
inline std::int64_t unix_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace sluice::gateway
