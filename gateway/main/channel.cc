#include "gateway/main/channel.h"

#include <boost/asio/post.hpp>

namespace sluice::control {
namespace {

namespace asio = boost::asio;
namespace protocol = kernel::protocol;

constexpr std::size_t kMaxQueued = 4096;
constexpr int kMessagesPerTurn =
    64;  // so that a chatty gateway cannot keep the keeper from its leases

}  // namespace

std::shared_ptr<Channel> Channel::open(asio::io_context& io, protocol::OwnedFd fd,
                                       Callbacks callbacks) {
  std::shared_ptr<Channel> channel(new Channel(io, fd.release(), std::move(callbacks)));
  channel->wait_for_messages();
  return channel;
}

Channel::Channel(asio::io_context& io, int fd, Callbacks callbacks)
    : descriptor_(io, fd), callbacks_(std::move(callbacks)) {}

void Channel::wait_for_messages() {
  descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                         [self = shared_from_this()](const boost::system::error_code& error) {
                           if (!error) self->read_messages();
                         });
}

void Channel::read_messages() {
  for (int i = 0; i < kMessagesPerTurn && !closed_; ++i) {
    auto result = protocol::receive_packet(descriptor_.native_handle());
    if (!result && callbacks_.of_another_version) continue;
    if (!result) return fail("protocol: " + result.error().message);
    if (result->status == protocol::IoStatus::closed) return fail("the other side is gone");
    if (result->status == protocol::IoStatus::would_block) break;
    callbacks_.message(std::move(*result->received));
  }
  if (!closed_) wait_for_messages();
}

void Channel::send(const protocol::Message& message, std::vector<protocol::OwnedFd> descriptors) {
  if (closed_) return;
  auto bytes = protocol::encode(message);
  if (!bytes) return fail("protocol: " + bytes.error().message);
  if (queue_.size() >= kMaxQueued) return fail("the other side does not read its messages");
  queue_.push_back({std::move(*bytes), std::move(descriptors)});
  flush();
}

void Channel::flush() {
  while (!queue_.empty() && !waiting_to_write_ && !closed_) {
    std::vector<int> fds;
    for (const auto& fd : queue_.front().descriptors)
      fds.push_back(fd.get());
    switch (protocol::send_packet(descriptor_.native_handle(), queue_.front().bytes, fds)) {
      case protocol::IoStatus::ok:
        queue_.pop_front();
        break;
      case protocol::IoStatus::closed:
        return fail("the other side is gone");
      case protocol::IoStatus::would_block:
        waiting_to_write_ = true;
        descriptor_.async_wait(asio::posix::descriptor_base::wait_write,
                               [self = shared_from_this()](const boost::system::error_code& error) {
                                 self->waiting_to_write_ = false;
                                 if (!error) self->flush();
                               });
    }
  }
}

// Told later, from the loop: senders need not expect to be destroyed in the middle of what they do.
void Channel::fail(const std::string& reason) {
  if (closed_) return;
  auto told = std::move(callbacks_.closed);
  const auto executor = descriptor_.get_executor();
  close();
  asio::post(executor, [told = std::move(told), reason] {
    if (told) told(reason);
  });
}

void Channel::close() {
  closed_ = true;
  queue_.clear();
  boost::system::error_code ignored;
  descriptor_.close(ignored);
}

}  // namespace sluice::control
