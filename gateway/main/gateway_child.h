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
  // since) with `command`. `user`: empty for this process's own.
  static std::expected<std::unique_ptr<GatewayChild>, std::string> spawn(
      boost::asio::io_context& io, const std::string& user,
      std::function<void(kernel::protocol::Received)> message,
      std::string command = "gateway-process");
  // One that this process started before `sluice upgrade` put another program in its place.
  static std::unique_ptr<GatewayChild> adopt(
      boost::asio::io_context& io, pid_t pid, kernel::protocol::OwnedFd channel,
      bool of_another_version, std::function<void(kernel::protocol::Received)> message);
  ~GatewayChild();  // ends it at once
  GatewayChild(const GatewayChild&) = delete;
  GatewayChild& operator=(const GatewayChild&) = delete;

  pid_t pid() const { return pid_; }
  int channel_fd() const { return channel_->fd(); }
  bool idle() const { return channel_->idle(); }  // nothing waits to be sent
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
