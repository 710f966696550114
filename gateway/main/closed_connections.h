// While the last connections are finished: what caught ones leave in the kernel's table would keep
// new ones from flowing straight.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "kernel/keeper.h"

namespace sluice::control {

class ClosedConnections {
 public:
  ClosedConnections(boost::asio::io_context& io, kernel::Keeper& keeper)
      : keeper_(keeper), timer_(io) {}

  // Now, and each second from now on. That the kernel cannot is said once.
  void keep_ending();

 private:
  kernel::Keeper& keeper_;
  boost::asio::steady_timer timer_;
};

}  // namespace sluice::control
