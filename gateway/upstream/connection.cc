#include "gateway/upstream/connection.h"

#include <sys/socket.h>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

#include "gateway/upstream/pool.h"
#include "gateway/upstream/worker_state.h"

namespace sluice::gateway {

using boost::system::error_code;

UpstreamConnection::UpstreamConnection(boost::asio::io_context& io, TimerWheel& wheel)
    : socket_(io.get_executor()),
      wheel_(wheel),
      timer_(WheelTimer::calling<&UpstreamConnection::on_timer>(this)) {}

UpstreamConnection::~UpstreamConnection() = default;

Endpoint& UpstreamConnection::endpoint() const {
  return pool_->endpoint();
}

void UpstreamConnection::close() {
  if (state_ == State::closed) return;
  const RefPtr<UpstreamConnection> self(this);
  if (state_ == State::idle) leave_pool();
  state_ = State::closed;
  handler_ = nullptr;
  reader_ = nullptr;
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  if (std::exchange(counted_, false)) pool_->release_place();
}

void UpstreamConnection::reset() {
  error_code ignored;
  if (socket_.is_open()) socket_.set_option(boost::asio::socket_base::linger(true, 0), ignored);
  close();
}

void UpstreamConnection::recycle() {
  // close() takes a reference of its own while it works; what it releases must not end here again.
  if (state_ != State::closed) return close();
  attachment_.reset();
  requests_ = 0;
  std::unique_ptr<UpstreamConnection> self(this);
  const RefPtr<EndpointPool> pool = std::exchange(pool_, nullptr);
  if (pool) pool->worker()->take_back(std::move(self));
}

// Fires for the connect timeout and then, moved later at each return to the pool, for the idle one.
void UpstreamConnection::on_timer() {
  const RefPtr<UpstreamConnection> self(this);
  if (state_ == State::connecting) {
    fail_connect({.reason = ConnectError::timed_out});
  } else if (state_ == State::idle) {
    close();
  }
}

void UpstreamConnection::wait_connected() {
  socket_.async_wait(Socket::wait_write,
                     boost::asio::bind_allocator(HandlerAllocator<std::byte>(memory_),
                                                 [self = RefPtr(this)](const error_code& error) {
                                                   self->connect_ended(error);
                                                 }));
}

void UpstreamConnection::connect_ended(const error_code& error) {
  if (state_ != State::connecting) return;
  if (error) return fail_connect({ConnectError::other, error, "epoll"});
  if (const auto failure = connection_result(socket_.native_handle()))
    return fail_connect(*failure);
  ConnectHandler& handler = *std::exchange(handler_, nullptr);
  established();
  handler.on_connected(*this);
}

void UpstreamConnection::fail_connect(const ConnectFailure& failure) {
  ConnectHandler& handler = *std::exchange(handler_, nullptr);
  close();
  handler.on_connect_failed(*this, failure);
}

void UpstreamConnection::established() {
  state_ = State::in_use;
  requests_ = 1;
  connect_time_ = std::chrono::steady_clock::now() - began_;
  pool_->count_established();
}

void UpstreamConnection::watch() {
  if (watching_) return;
  watching_ = true;
  socket_.async_wait(Socket::wait_read,
                     boost::asio::bind_allocator(HandlerAllocator<std::byte>(memory_),
                                                 [self = RefPtr(this)](const error_code& error) {
                                                   self->watch_ended(error);
                                                 }));
}

// An idle peer has nothing to say: whatever ends this wait ends the connection.
void UpstreamConnection::watch_ended(const error_code& error) {
  watching_ = false;
  if (state_ == State::idle)
    return error == boost::asio::error::operation_aborted ? watch() : close();
  if (state_ == State::in_use && reader_ != nullptr && !error) reader_->on_upstream_readable();
}

void UpstreamConnection::leave_pool() {
  pool_->leave_idle(*this);
  kept_.reset();
}

}  // namespace sluice::gateway
