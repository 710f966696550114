// What the keeper lets a gateway do about bans. The gateway reads from the network and may be taken
// over: it can then ban at a bounded rate, narrowly, for a bounded time, and nothing more.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <map>
#include <string>

#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"

namespace sluice::control {

class BanBridge {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr double kPerSecond = 2000;  // more bans in a second than any policy needs
  static constexpr double kBurst = 4000;
  static constexpr std::uint32_t kMaxSeconds = 30 * 86400;
  static constexpr std::size_t kMaxReason = 200;

  // The request as it may go to the kernel (reason cut and made printable), or why not.
  std::expected<kernel::protocol::Ban, std::string> admit(const kernel::protocol::Ban& request,
                                                          Clock::time_point now);

  // For admit() that allowed it: bans in the kernel. Logged either way, the refusals at most once a
  // second.
  void pass_on(kernel::Keeper& keeper, const kernel::protocol::Ban& request, Clock::time_point now);

  std::uint64_t refused() const { return refused_; }

 private:
  // False: bans of as many other lengths are in force as a gateway may have.
  bool take_length(std::uint8_t length, Clock::time_point now, Clock::time_point until);
  void log_refusal(const std::string& why, Clock::time_point now);

  double tokens_ = kBurst;
  std::map<std::uint8_t, Clock::time_point> lengths_;  // of IPv6 ─► when the last of them ends
  Clock::time_point refilled_{};
  Clock::time_point last_log_{};
  std::uint64_t refused_ = 0;
};

}  // namespace sluice::control
