// Who waits for the end of a drain. Told just before it: a hook in a container ends together with
// the container's first process, and should have ended by itself.
#pragma once

#include <functional>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/main/admin_commands.h"

namespace sluice::control {

// On `io`'s thread.
class DrainWaiters {
 public:
  explicit DrainWaiters(boost::asio::io_context& io) : timer_(io) {}

  void add(AdminCommands::Respond respond) { waiting_.push_back(std::move(respond)); }
  // `end` is called at once where nobody waits, else when they have had time to go.
  void tell(std::function<void()> end);

 private:
  std::vector<AdminCommands::Respond> waiting_;
  boost::asio::steady_timer timer_;
};

}  // namespace sluice::control
