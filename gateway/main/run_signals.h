// The signals of a process that runs: SIGTERM and SIGINT stop it, told twice it ends at once;
// SIGHUP reloads; SIGUSR1 opens the logs again; SIGCHLD.
#pragma once

#include <functional>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

namespace sluice::control {

// At the start of the process: what would end it by default and is no reason to. SIGPIPE for good:
// who reads the log may go away.
void ignore_signals();

class RunSignals {
 public:
  struct Hooks {
    std::function<bool()> stopping;
    std::function<void()> stop;
    std::function<void()> end;  // told to stop while stopping
    std::function<void()> reload;
    std::function<void()> reopen_logs;
    std::function<void()> child = {};  // empty: it has no children
  };

  // The hooks run on `io`, from wait() on.
  RunSignals(boost::asio::io_context& io, Hooks hooks);
  void wait();

 private:
  void wait_for_stop();
  void wait_for_others();
  void other(int signal);

  Hooks hooks_;
  boost::asio::signal_set stop_;
  boost::asio::signal_set others_;
};

}  // namespace sluice::control
