#include "gateway/http1/connection.h"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>

#include <boost/asio/bind_allocator.hpp>

#include "gateway/http1/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {
namespace {

constexpr std::chrono::seconds kLinger{2};
constexpr std::size_t kLingerBytes = 1 << 20;  // then the client has had its chance

}  // namespace

Connection::Connection(Worker& worker) : worker_(worker) {}
Connection::~Connection() = default;

void Connection::start(Worker& worker, Client client) {
  const RefPtr<Connection> connection(worker.connections().take(worker));
  connection->client_.emplace(std::move(client));
  connection->self_ = connection;
  worker.session_opened(*connection);
  // The client's first bytes are often there already.
  connection->on_readable(false);
}

void Connection::recycle() {
  client_.reset();
  requests_ = 0;
  filled_ = 0;
  discarded_ = 0;
  eof_ = lingering_ = proceeding_ = again_ = reading_ = writing_ = false;
  peer_text_.clear();
  worker_.connections().give_back(std::unique_ptr<Connection>(this));
}

const std::string& Connection::peer_text() {
  if (peer_text_.empty()) peer_text_ = client_->peer.address.to_string();
  return peer_text_;
}

ReadResult Connection::read() {
  if (eof_) return ReadResult::eof;
  if (!buffer_) buffer_ = worker_.buffers().take();
  if (filled_ == Buffer::kSize) return ReadResult::full;
  const ssize_t n = ::recv(fd(), buffer_->bytes + filled_, Buffer::kSize - filled_, MSG_DONTWAIT);
  if (n > 0) {
    filled_ += static_cast<std::size_t>(n);
    return ReadResult::data;
  }
  if (n == 0) {
    eof_ = true;
    return ReadResult::eof;
  }
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? ReadResult::again
                                                                   : ReadResult::failed;
}

void Connection::drop_input(std::size_t from, std::size_t to) {
  std::memmove(buffer_->bytes + from, buffer_->bytes + to, filled_ - to);
  filled_ -= to - from;
}

void Connection::want_read() {
  if (reading_ || eof_) return;
  reading_ = true;
  client_->socket.async_wait(
      ClientSocket::wait_read,
      boost::asio::bind_allocator(HandlerAllocator<std::byte>(read_memory_),
                                  [self = RefPtr(this)](boost::system::error_code error) {
                                    self->reading_ = false;
                                    if (self->self_ &&
                                        error != boost::asio::error::operation_aborted) {
                                      self->on_readable(static_cast<bool>(error));
                                    }
                                  }));
}

Flush Connection::send(Outbox& outbox, std::uint64_t& sent) {
  return outbox.flush(fd(), sent);
}

void Connection::want_write() {
  if (writing_) return;
  writing_ = true;
  client_->socket.async_wait(
      ClientSocket::wait_write,
      boost::asio::bind_allocator(HandlerAllocator<std::byte>(write_memory_),
                                  [self = RefPtr(this)](boost::system::error_code error) {
                                    self->writing_ = false;
                                    if (self->self_ && !error && self->exchange_) {
                                      self->exchange_->on_client_writable();
                                    }
                                  }));
}

void Connection::on_readable(bool failed) {
  if (failed) return abort();
  if (lingering_) return discard();
  if (exchange_) return exchange_->on_client_readable();
  switch (read()) {
    case ReadResult::data:
      return proceed();
    case ReadResult::again:
      return wait_idle();
    default:
      return close(false);
  }
}

void Connection::proceed() {
  if (proceeding_) {  // an exchange that ended at once: the loop below goes on
    again_ = true;
    return;
  }
  const RefPtr<Connection> guard(this);
  proceeding_ = true;
  do {
    again_ = false;
    if (filled_ > 0) {
      if (!begin_exchange()) break;
    } else if (self_ && !exchange_) {
      if (eof_ || worker_.draining() || listener().gone()) {
        close(false);
      } else {
        wait_idle();
      }
    }
  } while (again_ && self_);
  proceeding_ = false;
}

bool Connection::begin_exchange() {
  if (exchange_) return false;
  timer_.cancel();
  ++requests_;
  exchange_ = worker_.exchanges().take(worker_);
  exchange_->begin(*this);
  return true;
}

void Connection::wait_idle() {
  worker_.buffers().give_back(std::move(buffer_));
  if (!timer_.armed()) worker_.wheel().arm(timer_, listener().policy().timeouts.idle);
  want_read();
}

void Connection::exchange_ended(After after, std::size_t used) {
  worker_.exchanges().give_back(std::move(exchange_));
  if (after == After::gone) {
    // take_client() has left nothing else; the caller holds a reference, and has started the next
    // session, so that a drain does not end between the two.
    self_.reset();
    return worker_.session_closed(*this);
  }
  if (after == After::reset) return close(true);
  if (after == After::close) return close(false);
  if (after == After::linger) return linger();
  if (filled_ == used) {
    filled_ = 0;
  } else {
    drop_input(0, used);
  }
  proceed();
}

Client Connection::take_client() {
  timer_.cancel();
  worker_.buffers().give_back(std::move(buffer_));
  Client client = std::move(*client_);
  client_.reset();
  return client;
}

void Connection::linger() {
  if (eof_) return close(false);
  ::shutdown(fd(), SHUT_WR);
  lingering_ = true;
  worker_.wheel().arm(timer_, kLinger);
  discard();
}

void Connection::discard() {
  if (!buffer_) buffer_ = worker_.buffers().take();
  while (discarded_ < kLingerBytes) {
    const ssize_t n = ::recv(fd(), buffer_->bytes, Buffer::kSize, MSG_DONTWAIT);
    if (n > 0) {
      discarded_ += static_cast<std::size_t>(n);
      continue;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
      worker_.buffers().give_back(std::move(buffer_));
      return want_read();
    }
    break;
  }
  close(false);
}

void Connection::on_timer() {
  const RefPtr<Connection> guard(this);
  close(false);
}

// A request that is here already is still answered; closing over it would lose it.
void Connection::drain() {
  if (exchange_ || lingering_) return;
  const RefPtr<Connection> guard(this);
  if (read() == ReadResult::data) return proceed();
  close(false);
}

void Connection::abort() {
  if (!self_) return;
  const RefPtr<Connection> guard(this);
  if (exchange_) return exchange_->cancel();
  close(false);
}

void Connection::close(bool with_reset) {
  if (!self_) return;
  const RefPtr<Connection> guard = std::move(self_);
  timer_.cancel();
  worker_.session_closed(*this);
  worker_.buffers().give_back(std::move(buffer_));
  if (with_reset) {
    const ::linger abortive{1, 0};
    ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &abortive, sizeof abortive);
  }
  boost::system::error_code ignored;
  client_->socket.close(ignored);
  client_->ticket.release();
}

}  // namespace sluice::gateway::http1
