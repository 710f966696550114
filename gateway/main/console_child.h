// The console that the policy's `admin` asks for: a process without privileges beside the one that
// runs, which holds its listening socket, so that nobody is refused while another one starts, and a
// taken address refuses the policy.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "kernel/keeper_protocol.h"
#include "policy/config.h"

namespace sluice::control {

inline constexpr const char* kConsoleRestartsMetric = "sluice_console_restarts_total";
inline constexpr const char* kConsoleRestartsHelp =
    "Console processes (`admin`) that ended and were started again.";

// One thread.
class ConsoleChild {
 public:
  ConsoleChild(boost::asio::io_context& io, std::string admin_socket);
  ~ConsoleChild();  // ends it at once
  ConsoleChild(const ConsoleChild&) = delete;
  ConsoleChild& operator=(const ConsoleChild&) = delete;

  // All that can fail of what a policy wants; given up by being destroyed.
  struct Prepared {
    std::optional<policy::AdminConfig> config;
    kernel::protocol::OwnedFd listening;  // none: the one that is there serves on
  };
  std::expected<Prepared, std::string> prepare(
      const std::optional<policy::AdminConfig>& config) const;
  void commit(Prepared prepared);

  // Around an exec: it would be a child that the next program knows nothing of.
  void pause();
  void resume();

  void child_signal();              // call on SIGCHLD
  std::uint32_t restarts() const { return restarts_; }
  boost::json::value status() const;  // null: the policy asks for none

 private:
  void start();
  void stop();
  void start_later();

  std::string admin_socket_;
  std::optional<policy::AdminConfig> config_;
  kernel::protocol::OwnedFd listening_;
  kernel::protocol::OwnedFd lifetime_;
  pid_t pid_ = -1;
  std::uint32_t restarts_ = 0;
  boost::asio::steady_timer timer_;
};

}  // namespace sluice::control
