// What nghttp2 calls, for either side. Nothing is done from within a callback but taking notes:
// nghttp2 must not be called back for input or output then.
#pragma once

#include <cstdint>

#include "gateway/http2/codec.h"
#include "gateway/timer_wheel.h"

namespace sluice::gateway::http2 {

class Connection;

SessionPtr make_server_session(Connection& connection);

inline std::uint64_t now_ms(const TimerWheel& wheel) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(wheel.now().time_since_epoch())
          .count());
}

inline std::string_view text(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace sluice::gateway::http2
