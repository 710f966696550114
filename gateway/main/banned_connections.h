// Ends what a banned source has open, soon after the ban.
#pragma once

#include <chrono>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "kernel/keeper.h"

namespace sluice::control {

class BannedConnections {
 public:
  BannedConnections(boost::asio::io_context& io, kernel::Keeper& keeper);

  // One look at the node's sockets for all bans of a moment, and no more than a tenth of this
  // process's time, however many come.
  void end_soon();

 private:
  void end();

  kernel::Keeper& keeper_;
  boost::asio::steady_timer timer_;
  bool waiting_ = false;
  std::chrono::steady_clock::duration pause_;
};

}  // namespace sluice::control
