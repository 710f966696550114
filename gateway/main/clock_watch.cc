#include "gateway/main/clock_watch.h"

#include <ctime>

#include "gateway/log.h"

namespace sluice::control {

ClockWatch::ClockWatch(boost::asio::io_context& io) : timer_(io) {
  wait();
}

// Of the wall clock against the time since boot, sleep included: a node that was suspended has not
// jumped.
std::chrono::milliseconds ClockWatch::offset() {
  timespec since_boot{};
  ::clock_gettime(CLOCK_BOOTTIME, &since_boot);
  const auto boot =
      std::chrono::seconds(since_boot.tv_sec) + std::chrono::nanoseconds(since_boot.tv_nsec);
  return std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch() - boot);
}

void ClockWatch::wait() {
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    look();
    wait();
  });
}

void ClockWatch::look() {
  const auto now = offset();
  const auto by = now - offset_;
  offset_ = now;  // slewing is no jump
  if (by < std::chrono::seconds(1) && by > std::chrono::seconds(-1)) return;
  ++jumps_;
  gateway::log_warn("clock", "the wall clock jumped", {{"by_ms", by.count()}});
}

}  // namespace sluice::control
