#include "gateway/main/run_signals.h"

#include <signal.h>
#include <utility>

namespace sluice::control {

RunSignals::RunSignals(boost::asio::io_context& io, Hooks hooks)
    : hooks_(std::move(hooks)), stop_(io, SIGTERM, SIGINT), others_(io, SIGHUP) {
  if (hooks_.child) others_.add(SIGCHLD);
}

void RunSignals::wait() {
  wait_for_stop();
  wait_for_others();
}

void RunSignals::wait_for_stop() {
  stop_.async_wait([this](const boost::system::error_code& error, int) {
    if (error) return;
    if (hooks_.stopping()) return hooks_.end();
    hooks_.stop();
    wait_for_stop();
  });
}

void RunSignals::wait_for_others() {
  others_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    signal == SIGCHLD ? hooks_.child() : hooks_.reload();
    wait_for_others();
  });
}

}  // namespace sluice::control
