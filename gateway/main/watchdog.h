// Tells the service manager again and again that this process's event loop turns (WatchdogSec of
// systemd.service(5)); one that hangs is then ended and started anew. Nothing where none is asked
// for.
#pragma once

#include <chrono>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

namespace sluice::control {

// One thread.
class Watchdog {
 public:
  // Asked for by WATCHDOG_USEC and WATCHDOG_PID (sd_watchdog_enabled(3)).
  explicit Watchdog(boost::asio::io_context& io);

 private:
  void wait();

  boost::asio::steady_timer timer_;
  std::chrono::microseconds interval_;  // half of the time that is given; 0: none is asked for
};

}  // namespace sluice::control
