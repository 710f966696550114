// The signals of a process that runs: SIGTERM and SIGINT stop it, told twice it ends at once;
// SIGHUP reloads; SIGCHLD.
#pragma once

#include <functional>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

namespace sluice::control {

class RunSignals {
 public:
  struct Hooks {
    std::function<bool()> stopping;
    std::function<void()> stop;
    std::function<void()> end;  // told to stop while stopping
    std::function<void()> reload;
    std::function<void()> child = {};  // empty: it has no children
  };

  // The hooks run on `io`, from wait() on.
  RunSignals(boost::asio::io_context& io, Hooks hooks);
  void wait();

 private:
  void wait_for_stop();
  void wait_for_others();

  Hooks hooks_;
  boost::asio::signal_set stop_;
  boost::asio::signal_set others_;
};

}  // namespace sluice::control
