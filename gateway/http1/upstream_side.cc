#include "gateway/http1/upstream_side.h"

#include <boost/asio/bind_allocator.hpp>

namespace sluice::gateway::http1 {

UpstreamSide& UpstreamSide::of(UpstreamConnection& connection) {
  auto& attachment = connection.attachment();
  if (!attachment) attachment = std::make_unique<UpstreamSide>();
  return static_cast<UpstreamSide&>(*attachment);
}

void UpstreamSide::want_write(const UpstreamConnectionPtr& connection) {
  if (writing_) return;
  writing_ = true;
  connection->socket().async_wait(
      UpstreamConnection::Socket::wait_write,
      boost::asio::bind_allocator(HandlerAllocator<std::byte>(write_memory_),
                                  [this, connection](boost::system::error_code error) {
                                    writing_ = false;
                                    if (user_ != nullptr && !error) user_->on_upstream_writable();
                                  }));
}

}  // namespace sluice::gateway::http1
