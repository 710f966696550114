// Looks again, a little later, at connections whose last read came by the express lane and was
// short: bytes that came by TCP behind it, after the lane was left, may have had no event of their
// own. Asking epoll or the socket after each read would cost a system call a request for what
// happens once in a connection's life, if ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/refcounted.h"

namespace sluice::gateway {

class Transport;

// One of each io_context, in its thread only.
class ExpressLooks final : public boost::asio::execution_context::service {
 public:
  using key_type = ExpressLooks;
  static boost::asio::execution_context::id id;
  // Between one and two of it pass before a connection is looked at.
  static constexpr std::chrono::milliseconds kPeriod{100};

  explicit ExpressLooks(boost::asio::execution_context& io);
  ~ExpressLooks() override;

  // One that begins to wait to read. Adding it again while it is known costs nothing.
  void add(Transport& transport);

 private:
  struct Waiting {
    RefPtr<Transport> transport;
    std::uint32_t wait;  // that it was in when it was last seen
  };

  void shutdown() override;
  void arm();
  void look();

  boost::asio::steady_timer timer_;
  std::vector<Waiting> waiting_;
  std::vector<Waiting> looking_;  // kept for its room
  bool armed_ = false;
};

}  // namespace sluice::gateway
