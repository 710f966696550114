// How many client connections the process may have, so that each finds a descriptor for its
// upstream's side, and the log, the metrics page and the admin socket theirs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace sluice::gateway {

// Of `descriptors` (RLIMIT_NOFILE): two for each proxied connection; a quarter, at most 256, is
// kept for everything else.
constexpr std::uint64_t connections_allowed(std::uint64_t descriptors) {
  const std::uint64_t own = std::min<std::uint64_t>(descriptors / 4, 256);
  return std::max<std::uint64_t>((descriptors - own) / 2, 1);
}

// Shared by all workers and listeners.
struct ConnectionBudget {
  std::uint64_t allowed = 0;
  std::atomic<std::uint32_t> open{0};
  bool used_up() const { return open.load(std::memory_order_relaxed) >= allowed; }
};

}  // namespace sluice::gateway
