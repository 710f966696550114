// Notices when the wall clock jumps: nothing of ours depends on it (leases, bans and limits count by
// the monotonic one), but log lines, certificates and tokens of others do.
#pragma once

#include <chrono>
#include <cstdint>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

namespace sluice::control {

inline constexpr const char* kClockJumpsMetric = "sluice_clock_jumps_total";
inline constexpr const char* kClockJumpsHelp =
    "Times that the wall clock went a second or more ahead or back against the monotonic one.";

// One thread.
class ClockWatch {
 public:
  explicit ClockWatch(boost::asio::io_context& io);
  std::uint64_t jumps() const { return jumps_; }

 private:
  void wait();
  void look();
  static std::chrono::milliseconds offset();

  boost::asio::steady_timer timer_;
  std::chrono::milliseconds offset_ = offset();
  std::uint64_t jumps_ = 0;
};

}  // namespace sluice::control
