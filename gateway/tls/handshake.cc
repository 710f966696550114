#include "gateway/tls/handshake.h"

#include <cerrno>
#include <string>
#include <string_view>
#include <sys/socket.h>

#include "gateway/http1/connection.h"
#include "gateway/http2/connection.h"
#include "gateway/tcp_session.h"
#include "gateway/worker.h"
#include "policy/host.h"

namespace sluice::gateway::tls {
namespace {

// What a refused client may send before its connection is reset.
constexpr std::chrono::seconds kLinger{1};
constexpr std::size_t kLingerBytes = 64 * 1024;

}  // namespace

void Handshake::start(Worker& worker, Client client, std::string early) {
  auto handshake = make_ref<Handshake>(worker, std::move(client));
  handshake->client_.transport->set_user(handshake.get());
  handshake->self_ = handshake;
  worker.session_opened(*handshake);
  handshake->begin(std::move(early));
}

Handshake::Handshake(Worker& worker, Client client)
    : worker_(worker), client_(std::move(client)), listener_(RefPtr(&client_.ticket.listener())) {}

void Handshake::begin(std::string early) {
  context_ = listener_->tls();
  SslPtr ssl = context_ ? context_->accept() : nullptr;
  if (!ssl) return fail(Failure::unready);
  SSL_set_accept_state(ssl.get());
  client_.transport->set_tls(std::make_unique<TlsStream>(std::move(ssl), std::move(early)));
  worker_.wheel().arm(timer_, listener_->policy().timeouts.handshake);
  proceed();
}

void Handshake::proceed() {
  switch (client_.transport->tls()->handshake()) {
    case TlsStream::Step::done:
      return established();
    case TlsStream::Step::wants_read:
      return client_.transport->want_read();
    case TlsStream::Step::wants_write:
      return client_.transport->want_write();
    case TlsStream::Step::failed:
      return fail(client_.transport->tls()->failure());
  }
}

void Handshake::established() {
  const RefPtr<Handshake> guard = std::move(self_);
  timer_.cancel();
  client_.transport->set_user(nullptr);
  client_.decrypted = context_->is_selective();
  const TlsStream& stream = *client_.transport->tls();
  worker_.metrics().tls_handshake(listener_->slot(), stream.version() >= TLS1_3_VERSION,
                                  stream.resumed());
  if (listener_->policy().protocol == policy::ListenerProtocol::tcp) {
    std::array<char, 256> memory;
    const auto name = policy::normalise_host(stream.server_name(), memory);
    TcpSession::start(worker_, std::move(client_), std::string(name.value_or("")));
  } else if (stream.protocol() == "h2") {
    http2::Connection::start(worker_, std::move(client_));
  } else {
    http1::Connection::start(worker_, std::move(client_));
  }
  worker_.session_closed(*this);  // last, so that a drain does not end between the two
}

void Handshake::on_readable() {
  const RefPtr<Handshake> guard(this);
  lingering_ ? drain_input() : proceed();
}

void Handshake::on_writable() {
  const RefPtr<Handshake> guard(this);
  if (!lingering_) proceed();
}

void Handshake::on_timer() {
  const RefPtr<Handshake> guard(this);
  lingering_ ? close() : fail(Failure::timeout);
}

void Handshake::fail(Failure failure) {
  const TlsStream* stream = client_.transport->tls();
  // Who says nothing only looks whether the port is open, or connects in advance: no offence.
  if (stream != nullptr && BIO_number_read(SSL_get_rbio(stream->ssl())) == 0) {
    worker_.metrics().tls_failed(listener_->slot(), static_cast<std::size_t>(failure));
  } else {
    worker_.tls_failed(*listener_, failure, client_);
  }
  log_refused(failure);
  if (failure == Failure::plain_http) say_that_this_is_https();
  const bool said_why = failure != Failure::unready && failure != Failure::timeout &&
                        failure != Failure::closed && failure != Failure::refused;
  said_why ? linger() : close();
}

// Who only looks whether the port is open leaves no line.
void Handshake::log_refused(Failure failure) {
  if (failure == Failure::closed || !worker_.access_log().enabled()) return;
  std::string reason = "TLS " + std::string(name(failure));
  std::array<char, 256> memory;
  std::string_view host;
  if (const TlsStream* stream = client_.transport->tls()) {
    const std::string_view said = stream->reason();
    if (failure != Failure::timeout && said != name(failure)) reason.append(": ").append(said);
    host = policy::normalise_host(stream->server_name(), memory).value_or("");
  }
  listener_->log_refused(client_.peer, client_.id, reason, host);
}

// Closing over unread bytes resets the connection, and what was said of the refusal is lost with
// it: by TLS 1.3 the first request is on its way before the client's certificate is looked at.
void Handshake::linger() {
  lingering_ = true;
  unread_left_ = kLingerBytes;
  ::shutdown(client_.transport->fd(), SHUT_WR);
  worker_.wheel().arm(timer_, kLinger);
  drain_input();
}

void Handshake::drain_input() {
  while (unread_left_ > 0) {
    const ssize_t n =
        ::recv(client_.transport->fd(), nullptr, unread_left_, MSG_TRUNC | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return client_.transport->want_read();
    if (n <= 0) break;
    unread_left_ -= static_cast<std::size_t>(n);
  }
  close();
}

// Who typed http:// by mistake reads what is wrong rather than of a reset connection.
void Handshake::say_that_this_is_https() {
  static constexpr std::string_view kAnswer =
      "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 46\r\n"
      "connection: close\r\n\r\nThis port speaks HTTPS; the request was HTTP.\n";
  const int fd = client_.transport->fd();
  constexpr int kFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
  // The rest of the request first: closing over unread bytes resets the connection, answer and all.
  constexpr std::size_t kMostOfAHead = 64 * 1024;
  (void)::recv(fd, nullptr, kMostOfAHead, MSG_TRUNC | kFlags);
  (void)::send(fd, kAnswer.data(), kAnswer.size(), kFlags);
}

void Handshake::abort() {
  if (self_) close();
}

void Handshake::close() {
  const RefPtr<Handshake> guard = std::move(self_);
  timer_.cancel();
  worker_.session_closed(*this);
  client_.transport->close();
  client_.ticket.release();
}

}  // namespace sluice::gateway::tls
