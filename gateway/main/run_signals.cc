#include "gateway/main/run_signals.h"

#include <signal.h>
#include <utility>

#include "gateway/log.h"

namespace sluice::control {

void ignore_signals() {
  for (const int signal : {SIGPIPE, SIGUSR1, SIGUSR2})
    ::signal(signal, SIG_IGN);
}

RunSignals::RunSignals(boost::asio::io_context& io, Hooks hooks)
    : hooks_(std::move(hooks)), stop_(io, SIGTERM, SIGINT), others_(io, SIGHUP, SIGUSR1, SIGUSR2) {
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
    other(signal);
    wait_for_others();
  });
}

void RunSignals::other(int signal) {
  if (signal == SIGCHLD) return hooks_.child();
  if (signal == SIGUSR1) return hooks_.reopen_logs();
  if (signal == SIGHUP) return hooks_.reload();
  gateway::log_info("control", "SIGUSR2 does nothing here; `sluice upgrade` runs another program");
}

}  // namespace sluice::control
