// Keeps the kernel as the keeper wants it: a look each second, and at once when somebody changes
// something. What is found goes to the log.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "kernel/keeper.h"

namespace sluice::control {

class KernelWatch {
 public:
  // `alive`: somebody serves what is intercepted. `each_second` follows the look of each second.
  KernelWatch(boost::asio::io_context& io, kernel::Keeper& keeper, std::function<bool()> alive,
              std::function<void()> each_second);

  void start();
  void stop();
  void pause(bool paused);  // another keeper is about to change the kernel; leases go on
  void look(bool alive);
  void say_warnings();  // and problems, where they are others than before

 private:
  void say_problems();
  void tick();
  void keep_leases();
  void watch_changes();
  void wait_for_change(boost::asio::posix::stream_descriptor& descriptor);
  void changed();

  boost::asio::io_context& io_;
  kernel::Keeper& keeper_;
  std::function<bool()> alive_;
  std::function<void()> each_second_;
  boost::asio::steady_timer tick_timer_;
  boost::asio::steady_timer lease_timer_;
  boost::asio::steady_timer change_timer_;
  std::vector<std::unique_ptr<boost::asio::posix::stream_descriptor>> changes_;  // duplicates
  std::vector<std::string> said_;
  std::vector<std::string> said_problems_;
  bool stopped_ = false;
  bool paused_ = false;
};

}  // namespace sluice::control
