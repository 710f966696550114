#include "gateway/transport.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/version.hpp>

#include "gateway/express_looks.h"
#include "gateway/reactor_events.h"
#include "gateway/tls/stream.h"

namespace sluice::gateway {

namespace {

// Reads after which a connection is worth an epoll_ctl(2): one that has a request or two is not.
constexpr std::uint8_t kSettled = 3;
constexpr std::uint32_t kMayHide = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;

}  // namespace

namespace asio = boost::asio;
using boost::system::error_code;

static_assert(BOOST_VERSION / 100 == 1081, "look at Asio's reactor again: see class Transport");

Transport::Transport(asio::io_context& io) : io_(io), reactor_(asio::use_service<Reactor>(io)) {
  reactor_.init_task();
}

Transport::~Transport() {
  end();
}

TransportPtr Transport::adopt(asio::io_context& io, int fd, error_code& error) {
  auto transport = make_ref<Transport>(io);
  const int failed = transport->reactor_.register_descriptor(fd, transport->descriptor_);
  transport->fd_ = fd;
  if (failed == 0) {
    // Armed from the start: epoll tells of what is there already, and need not be asked to look
    // again.
    transport->readable_wait_.not_yet = true;
    transport->start(transport->readable_wait_, Reactor::read_op, true);
    return transport;
  }
  error.assign(failed, asio::error::get_system_category());
  return nullptr;
}

void Transport::report_unread_bytes(int fd, bool yes) {
  const int wanted = yes ? 1 : 0;
  ::setsockopt(fd, IPPROTO_TCP, TCP_INQ, &wanted, sizeof wanted);  // Linux 4.18; or without it
}

void Transport::set_tls(std::unique_ptr<TlsStream> stream) {
  tls_ = std::move(stream);
  tls_->attach(*this);
}

bool Transport::has_pending() const {
  return tls_ && tls_->has_pending();
}

std::string_view Transport::complaint() const {
  return tls_ ? tls_->complaint() : std::string_view();
}

Received Transport::read(std::span<char> room) {
  if (room.empty()) return {ReadResult::full};
  if (tls_) return tls_->read(room);
  return receive(room);
}

bool Transport::silent() {
  if (quiet_ || tls_) return true;
  char byte = 0;
  quiet_ = ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
  return quiet_;
}

Received Transport::receive(std::span<char> room) {
  if (!told_of_end_ || lane_.asks()) return receive_reporting(room);
  const ssize_t n = ::recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
  if (n <= 0) return nothing(n);
  const auto bytes = static_cast<std::size_t>(n);
  lane_.heard(bytes);
  unsure_ = lane_.inwards();
  quiet_ = bytes < room.size() && !more_may_hide_ && !lane_.asks();
  return taken(bytes);
}

Received Transport::receive_reporting(std::span<char> room) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control;
  iovec buffer{room.data(), room.size()};
  msghdr message{};
  message.msg_iov = &buffer;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(fd_, &message, MSG_DONTWAIT);
  if (n <= 0) return nothing(n);
  const cmsghdr* const unread = CMSG_FIRSTHDR(&message);
  int left = 1;  // an end that has come counts as a byte
  if (unread != nullptr) std::memcpy(&left, CMSG_DATA(unread), sizeof left);
  quiet_ = left == 0;
  unsure_ = false;
  if (reads_ < kSettled) ++reads_;
  lane_.heard(static_cast<std::size_t>(n), unread == nullptr);  // by the lane there is no TCP_INQ
  return taken(static_cast<std::size_t>(n));
}

Received Transport::taken(std::size_t bytes) {
  if (patience_) may_write_again();
  return {ReadResult::data, bytes};
}

// What a read says besides bytes.
Received Transport::nothing(ssize_t result) {
  if (result == 0) return {ReadResult::eof};
  quiet_ = errno == EAGAIN || errno == EWOULDBLOCK;
  unsure_ = false;
  return {quiet_ || errno == EINTR ? ReadResult::again : ReadResult::failed};
}

Flush Transport::send(std::span<const char> bytes, std::size_t& sent, bool more) {
  sent = 0;
  if (lane_.holds()) return Flush::blocked;
  Outbox outbox;
  outbox.add({bytes.data(), bytes.size()});
  std::uint64_t taken = 0;
  const Flush result = flush(outbox, taken, more || last_words_);
  sent = static_cast<std::size_t>(taken);
  return result;
}

Flush Transport::write(Outbox& outbox, std::uint64_t& sent) {
  if (tls_) return tls_->write(outbox, sent);
  if (lane_.holds() && !outbox.empty()) return Flush::blocked;
  return flush(outbox, sent, last_words_);
}

// The peer has no memory for what is handed over: by TCP its window waits for it.
bool Transport::turns_to_tcp() {
  if ((errno != ENOMEM && errno != ENOBUFS) || !lane_.outwards()) return false;
  lane_.leave(fd_);
  return true;
}

Flush Transport::flush(Outbox& outbox, std::uint64_t& sent, bool more) {
  const std::uint64_t before = sent;
  Flush result = outbox.flush(fd_, sent, more);
  if (result == Flush::failed && turns_to_tcp()) result = outbox.flush(fd_, sent, more);
  lane_.said(static_cast<std::size_t>(sent - before));
  return result;
}

// --- waiting

// TLS may need the other direction: a renegotiated key, or a handshake that is not over.
void Transport::want_read() {
  if (wants_read_) return;
  wants_read_ = true;
  if (has_pending()) {
    asio::post(io_, [self = RefPtr(this)] { self->readable(); });
  } else if (tls_ && tls_->read_needs_write()) {
    wait_writable();
  } else {
    wait_readable();
  }
}

void Transport::want_write() {
  if (wants_write_) return;
  wants_write_ = true;
  if (lane_.holds()) {
    wait_for_word();
  } else if (tls_ && tls_->write_needs_read()) {
    wait_readable();
  } else {
    wait_writable();
  }
}

Transport::Wait::Wait(void (Transport::*then)())
    : reactor_op({}, &Transport::perform, &Transport::complete), ended(then) {}

// "Exhausted": the reactor need not try by itself whether there is more.
Transport::Wait::status Transport::perform(asio::detail::reactor_op* wait) {
  const bool early = std::exchange(static_cast<Wait*>(wait)->not_yet, false);
  if (early) return Wait::not_done;
  static_cast<Wait*>(wait)->transport->note_events();
  return Wait::done_and_exhausted;
}

void Transport::complete(void* owner, asio::detail::operation* operation,
                         const error_code& /*error*/, std::size_t /*bytes*/) {
  Wait& wait = *static_cast<Wait*>(operation);
  const TransportPtr transport = std::move(wait.transport);
  // Without an owner the loop is being destroyed.
  if (owner != nullptr && transport->is_open()) (transport.get()->*wait.ended)();
}

void Transport::note_events() {
  if (told_of_end_ && (told_events(descriptor_) & kMayHide) != 0) more_may_hide_ = true;
}

// True: from now on, and epoll must be asked anew.
bool Transport::asks_for_end() {
  if (told_of_end_ || reads_ < kSettled || readable_wait_.transport || !is_open()) return false;
  asked_events(descriptor_) |= EPOLLRDHUP;
  told_of_end_ = true;
  if (!lane_.watched()) report_unread_bytes(fd_, false);  // 90 ns a request
  return true;
}

// `edge_will_come`: whatever happens from now on does; if not, epoll is asked to look at once.
void Transport::start(Wait& wait, int direction, bool edge_will_come) {
  if (wait.transport || !is_open()) return;
  wait.transport = TransportPtr(this);
  reactor_.start_op(direction, fd_, descriptor_, &wait, false, edge_will_come);
}

void Transport::wait_readable() {
  const bool asks = asks_for_end();
  const bool edge_will_come = quiet_ && edge_seen_ && !asks;
  start(readable_wait_, Reactor::read_op, edge_will_come);
  if (!edge_will_come || !unsure_) return;
  ++wait_number_;
  asio::use_service<ExpressLooks>(io_).add(*this);
}

void Transport::look_again() {
  quiet_ = unsure_ = false;
  if (!silent()) readable();
}

void Transport::wait_writable() {
  start(writable_wait_, Reactor::write_op, false);
}

void Transport::want_error() {
  start(error_wait_, Reactor::except_op, false);
}

// Under TLS either event may let either direction go on.
void Transport::readable() {
  quiet_ = false;
  edge_seen_ = true;
  const bool write_too = tls_ && wants_write_ && tls_->write_needs_read();
  if (std::exchange(wants_read_, false) && user_ != nullptr) user_->on_readable();
  if (write_too && std::exchange(wants_write_, false) && user_ != nullptr) user_->on_writable();
}

void Transport::writable() {
  const bool read_too = tls_ && wants_read_ && tls_->read_needs_write();
  if (std::exchange(wants_write_, false) && user_ != nullptr) user_->on_writable();
  if (read_too && std::exchange(wants_read_, false) && user_ != nullptr) user_->on_readable();
}

void Transport::broken() {
  if (user_ != nullptr) user_->on_error();
}

// The socket has room, whatever was written: only the peer's word, or time, says that it was read.
void Transport::wait_for_word() {
  if (patience_) return;
  patience_ = std::make_unique<asio::steady_timer>(io_, ExpressLane::kPatience);
  patience_->async_wait([self = TransportPtr(this)](const error_code& ended) {
    if (ended || !self->patience_ || !self->is_open()) return;
    self->lane_.leave(self->fd_);
    self->patience_.reset();
    self->writable();
  });
}

void Transport::may_write_again() {
  patience_.reset();
  asio::post(io_, [self = TransportPtr(this)] {
    if (self->is_open()) self->writable();
  });
}

// --- ends

void Transport::shutdown_write() {
  if (tls_) tls_->shutdown();
  ::shutdown(fd_, SHUT_WR);  // fails only when the peer is gone, which reading tells
}

void Transport::close() {
  user_ = nullptr;
  if (tls_ && is_open()) tls_->shutdown();
  end();
}

void Transport::close_with_reset() {
  user_ = nullptr;
  const linger abortive{1, 0};
  if (is_open()) ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abortive, sizeof abortive);
  end();
}

// Nobody else has the descriptor, so that closing it takes it out of epoll.
void Transport::end() {
  if (fd_ < 0) return;
  patience_.reset();
  reactor_.deregister_descriptor(fd_, descriptor_, true);
  ::close(std::exchange(fd_, -1));
  reactor_.cleanup_descriptor_data(descriptor_);
}

}  // namespace sluice::gateway
