// The gateway process as the keeper sees it: a pid and a channel.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <sys/types.h>

#include <boost/asio/io_context.hpp>

#include "gateway/main/channel.h"

namespace sluice::control {

class GatewayChild {
 public:
  // Starts this same binary (by /proc/self/exe: the one that runs, whatever has been installed
  // since).
  static std::expected<std::unique_ptr<GatewayChild>, std::string> spawn(
      boost::asio::io_context& io, std::function<void(kernel::protocol::Received)> message);
  ~GatewayChild();  // ends it at once
  GatewayChild(const GatewayChild&) = delete;
  GatewayChild& operator=(const GatewayChild&) = delete;

  pid_t pid() const { return pid_; }
  void send(const kernel::protocol::Message& message,
            std::vector<kernel::protocol::OwnedFd> descriptors = {}) {
    channel_->send(message, std::move(descriptors));
  }
  void kill();
  // After SIGCHLD: how it ended ("by signal 9 (Killed)"), or empty while it runs.
  std::string reap();

 private:
  GatewayChild(pid_t pid, std::shared_ptr<Channel> channel)
      : pid_(pid), channel_(std::move(channel)) {}

  pid_t pid_;
  std::shared_ptr<Channel> channel_;
  bool reaped_ = false;
};

}  // namespace sluice::control
