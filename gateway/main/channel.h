// One end of the keeper's socket pair on an io_context: messages in, messages out, in order.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "kernel/keeper_protocol.h"

namespace sluice::control {

// One thread. Callbacks may destroy the channel's owner; none is called after close().
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  struct Callbacks {
    std::function<void(kernel::protocol::Received)> message;
    std::function<void(std::string reason)>
        closed;  // once: the peer is gone, or broke the protocol
    bool of_another_version = false;  // what cannot be decoded is skipped, and breaks nothing
  };

  static std::shared_ptr<Channel> open(boost::asio::io_context& io, kernel::protocol::OwnedFd fd,
                                       Callbacks callbacks);

  // Queued while the peer does not read; a peer that lets more than 4,096 messages wait is given
  // up.
  void send(const kernel::protocol::Message& message,
            std::vector<kernel::protocol::OwnedFd> descriptors = {});
  void close();
  int fd() { return descriptor_.native_handle(); }  // the channel's
  bool idle() const { return queue_.empty(); }      // nothing waits to be sent

 private:
  struct Outgoing {
    std::string bytes;
    std::vector<kernel::protocol::OwnedFd> descriptors;
  };

  Channel(boost::asio::io_context& io, int fd, Callbacks callbacks);
  void wait_for_messages();
  void read_messages();
  void flush();
  void fail(const std::string& reason);

  boost::asio::posix::stream_descriptor descriptor_;
  Callbacks callbacks_;
  std::deque<Outgoing> queue_;
  bool waiting_to_write_ = false;
  bool closed_ = false;
};

}  // namespace sluice::control
