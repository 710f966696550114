// What one HTTP/2 connection may ask of us without sending requests: each kind of frame that costs
// its sender nothing has a bucket that fills again slowly. Pure: time comes in.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::gateway::http2 {

enum class Abuse : std::uint8_t {
  rapid_reset,   // streams opened and reset (CVE-2023-44487)
  continuation,  // a head without end (CVE-2024-27316)
  settings,      // (CVE-2019-9515)
  ping,          // (CVE-2019-9512)
  priority,      // (CVE-2019-9513)
  empty_data,    // DATA without bytes, or of padding alone (CVE-2019-9518)
  header_list,   // heads far over the limit that we announced: HPACK bombs (CVE-2016-6581)
  malformed,     // streams refused by RFC 9113, again and again (CVE-2025-8671)
  reset,         // RST_STREAM of streams that have ended
};
inline constexpr std::size_t kAbuses = 9;
std::string_view name(Abuse kind);  // as metrics say it

class FloodGuard {
 public:
  explicit FloodGuard(std::uint64_t now_ms) { reset(now_ms); }
  void reset(std::uint64_t now_ms);

  // One more of this kind. False: too many; the connection has to end.
  bool admit(Abuse kind, std::uint64_t now_ms);

  // CONTINUATION frames of one head.
  static constexpr std::uint32_t kMaxContinuations = 8;

 private:
  struct Bucket {
    std::uint32_t left = 0;
    std::uint64_t filled_ms = 0;
  };
  std::array<Bucket, kAbuses> buckets_;
};

}  // namespace sluice::gateway::http2
