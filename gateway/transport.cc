#include "gateway/transport.h"

#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/post.hpp>

#include "gateway/tls/stream.h"

namespace sluice::gateway {

namespace asio = boost::asio;
using boost::system::error_code;

Transport::Transport(asio::io_context& io) : socket_(io.get_executor()) {}
Transport::~Transport() = default;

TransportPtr Transport::adopt(asio::io_context& io, int fd, bool v6, error_code& error) {
  auto transport = make_ref<Transport>(io);
  transport->socket_.assign(v6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), fd, error);
  if (!error) return transport;
  ::close(fd);
  return nullptr;
}

void Transport::set_tls(std::unique_ptr<TlsStream> stream) {
  tls_ = std::move(stream);
}

bool Transport::has_pending() const {
  return tls_ && tls_->has_pending();
}

Received Transport::read(std::span<char> room) {
  if (room.empty()) return {ReadResult::full};
  if (tls_) return tls_->read(room);
  const ssize_t n = ::recv(fd(), room.data(), room.size(), MSG_DONTWAIT);
  if (n > 0) {
    const auto bytes = static_cast<std::size_t>(n);
    return {ReadResult::data, bytes, bytes < room.size()};
  }
  if (n == 0) return {ReadResult::eof};
  const bool again = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
  return {again ? ReadResult::again : ReadResult::failed};
}

Flush Transport::write(Outbox& outbox, std::uint64_t& sent) {
  return tls_ ? tls_->write(outbox, sent) : outbox.flush(fd(), sent);
}

// --- waiting

// TLS may need the other direction: a renegotiated key, or a handshake that is not over.
void Transport::want_read() {
  if (wants_read_) return;
  wants_read_ = true;
  if (has_pending()) {
    asio::post(socket_.get_executor(), [self = RefPtr(this)] { self->readable(); });
  } else if (tls_ && tls_->read_needs_write()) {
    wait_writable();
  } else {
    wait_readable();
  }
}

void Transport::want_write() {
  if (wants_write_) return;
  wants_write_ = true;
  if (tls_ && tls_->write_needs_read()) {
    wait_readable();
  } else {
    wait_writable();
  }
}

void Transport::wait_readable() {
  if (std::exchange(waiting_readable_, true)) return;
  socket_.async_wait(Socket::wait_read,
                     asio::bind_allocator(HandlerAllocator<std::byte>(read_memory_),
                                          [self = RefPtr(this)](const error_code&) {
                                            self->waiting_readable_ = false;
                                            self->readable();
                                          }));
}

void Transport::wait_writable() {
  if (std::exchange(waiting_writable_, true)) return;
  socket_.async_wait(Socket::wait_write,
                     asio::bind_allocator(HandlerAllocator<std::byte>(write_memory_),
                                          [self = RefPtr(this)](const error_code&) {
                                            self->waiting_writable_ = false;
                                            self->writable();
                                          }));
}

// Under TLS either event may let either direction go on.
void Transport::readable() {
  const bool write_too = tls_ && wants_write_ && tls_->write_needs_read();
  if (std::exchange(wants_read_, false) && user_ != nullptr) user_->on_readable();
  if (write_too && std::exchange(wants_write_, false) && user_ != nullptr) user_->on_writable();
}

void Transport::writable() {
  const bool read_too = tls_ && wants_read_ && tls_->read_needs_write();
  if (std::exchange(wants_write_, false) && user_ != nullptr) user_->on_writable();
  if (read_too && std::exchange(wants_read_, false) && user_ != nullptr) user_->on_readable();
}

void Transport::want_error() {
  socket_.async_wait(Socket::wait_error, [self = RefPtr(this)](const error_code&) {
    if (self->user_ != nullptr) self->user_->on_error();
  });
}

// --- ends

void Transport::shutdown_write() {
  if (tls_) tls_->shutdown();
  ::shutdown(fd(), SHUT_WR);  // fails only when the peer is gone, which reading tells
}

void Transport::close() {
  user_ = nullptr;
  if (tls_ && is_open()) tls_->shutdown();
  error_code ignored;
  socket_.close(ignored);
}

void Transport::close_with_reset() {
  user_ = nullptr;
  error_code ignored;
  if (is_open()) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
}

}  // namespace sluice::gateway
