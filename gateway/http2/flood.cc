#include "gateway/http2/flood.h"

#include <algorithm>

namespace sluice::gateway::http2 {
namespace {

struct Allowance {
  std::uint32_t burst;
  std::uint32_t per_second;
};

// Browsers cancel a page's worth of streams at once; pings come every few seconds, settings once.
constexpr std::array<Allowance, kAbuses> kAllowances{{
    {200, 20},   // rapid_reset
    {1, 1},      // continuation: counted by head, see kMaxContinuations
    {16, 1},     // settings
    {32, 2},     // ping
    {500, 100},  // priority
    {100, 20},   // empty_data
    {4, 1},      // header_list
    {50, 5},     // malformed
    {500, 100},  // reset: a client's may cross the end of a stream
}};

}  // namespace

std::string_view name(Abuse kind) {
  constexpr std::array<std::string_view, kAbuses> kNames{
      "rapid_reset", "continuation", "settings",  "ping", "priority",
      "empty_data",  "header_list",  "malformed", "reset"};
  return kNames[static_cast<std::size_t>(kind)];
}

void FloodGuard::reset(std::uint64_t now_ms) {
  for (std::size_t i = 0; i < kAbuses; ++i)
    buckets_[i] = {kAllowances[i].burst, now_ms};
}

bool FloodGuard::admit(Abuse kind, std::uint64_t now_ms) {
  const auto index = static_cast<std::size_t>(kind);
  const Allowance& allowance = kAllowances[index];
  Bucket& bucket = buckets_[index];
  const std::uint64_t earned = (now_ms - bucket.filled_ms) * allowance.per_second / 1000;
  if (earned > 0) {
    bucket.left =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(allowance.burst, bucket.left + earned));
    bucket.filled_ms = now_ms;
  }
  if (bucket.left == 0) return false;
  --bucket.left;
  return true;
}

}  // namespace sluice::gateway::http2
