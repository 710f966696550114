// What the gateway remembers of its clients, kept by the keeper for the next one: limits and bans
// in memory, in case it crashes; whom it banned how often, on disk, over restarts.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/main/gateway_supervisor.h"

namespace sluice::control {

// Keeper's thread. The gateway is asked once a second, and where it has more than a MiB to say
// (some 60,000 live keys), once in as many seconds.
class GatewayMemory {
 public:
  GatewayMemory(boost::asio::io_context& io, GatewaySupervisor& supervisor,
                std::function<std::string()> state_dir)
      : supervisor_(supervisor), state_dir_(std::move(state_dir)), timer_(io) {}

  void load();    // from disk, before the first gateway
  void save();    // to disk, what outlives a restart: without limits
  void follow();  // from now on
  void stop();
  void ask();  // at once: something has changed that must not come back

  boost::json::object status() const;  // {"bytes", "age_ms"}

 private:
  using Clock = std::chrono::steady_clock;

  std::string path() const;
  void ask_after(Clock::duration pause);

  GatewaySupervisor& supervisor_;
  std::function<std::string()> state_dir_;
  boost::asio::steady_timer timer_;
  Clock::time_point saved_ = Clock::now();
  Clock::time_point heard_{};
  std::size_t bytes_ = 0;
  bool warned_ = false;
  bool stopped_ = false;
};

}  // namespace sluice::control
