#include "gateway/detection.h"

#include <cerrno>
#include <sys/socket.h>

#include "gateway/http1/connection.h"
#include "gateway/tcp_session.h"
#include "gateway/worker.h"

namespace sluice::gateway {
namespace {

constexpr std::size_t kLongestMethod = 16;
constexpr char kHandshakeRecord = 0x16;
constexpr std::chrono::milliseconds kLookAgain{10};  // while a part of a method is there

bool is_method_letter(char c) {
  return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

Detected detect_http(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == ' ') return i >= 3 ? Detected::http : Detected::tcp;
    if (!is_method_letter(bytes[i]) || i >= kLongestMethod) return Detected::tcp;
  }
  return Detected::need_more;
}

// A handshake record (RFC 8446 section 5.1) that begins with a ClientHello.
Detected detect_tls(std::string_view bytes) {
  constexpr char kMajorVersion = 0x03;
  constexpr char kClientHello = 0x01;
  constexpr std::size_t kRecordHeader = 5;
  if (bytes.size() > 1 && bytes[1] != kMajorVersion) return Detected::tcp;
  if (bytes.size() <= kRecordHeader) return Detected::need_more;
  return bytes[kRecordHeader] == kClientHello ? Detected::tls : Detected::tcp;
}

}  // namespace

Detected detect(std::string_view bytes) {
  if (bytes.empty()) return Detected::need_more;
  return bytes[0] == kHandshakeRecord ? detect_tls(bytes) : detect_http(bytes);
}

void Detection::start(Worker& worker, Client client) {
  auto detection = make_ref<Detection>(worker, std::move(client));
  detection->client_.transport->set_user(detection.get());
  detection->self_ = detection;
  worker.session_opened(*detection);
  detection->look();
}

Detection::Detection(Worker& worker, Client client)
    : worker_(worker),
      client_(std::move(client)),
      listener_(RefPtr(&client_.ticket.listener())),
      deadline_(worker.wheel().now() + listener_->policy().timeouts.detect) {}

void Detection::look() {
  std::array<char, kLongestMethod + 1> first;
  const ssize_t n =
      ::recv(client_.transport->fd(), first.data(), first.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) {
    const std::string_view bytes(first.data(), static_cast<std::size_t>(n));
    const Detected what = detect(bytes);
    if (what != Detected::need_more) return decide(what);
    // The bytes stay where they are, so the socket is readable all the time: look again by the
    // clock.
    if (worker_.wheel().now() >= deadline_)
      return decide(bytes[0] == kHandshakeRecord && bytes.size() > 1 ? Detected::tls
                                                                     : Detected::tcp);
    return worker_.wheel().arm(timer_, kLookAgain);
  }
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return wait();
  abort();  // closed, or broken, before it said a word
}

void Detection::wait() {
  worker_.wheel().arm_at(timer_, deadline_);
  client_.transport->want_read();
}

void Detection::on_readable() {
  const RefPtr<Detection> guard(this);
  look();
}

void Detection::on_timer() {
  const RefPtr<Detection> guard(this);
  if (worker_.wheel().now() >= deadline_) return decide(Detected::tcp);
  look();
}

void Detection::decide(Detected what) {
  const RefPtr<Detection> guard = std::move(self_);
  timer_.cancel();
  client_.transport->set_user(nullptr);
  if (what == Detected::tls) {
    worker_.begin_tls(std::move(client_));
  } else if (what == Detected::http) {
    http1::Connection::start(worker_, std::move(client_));
  } else {
    TcpSession::start(worker_, std::move(client_));
  }
  worker_.session_closed(*this);  // last, so that a drain does not end between the two
}

void Detection::abort() {
  if (!self_) return;
  const RefPtr<Detection> guard = std::move(self_);
  timer_.cancel();
  worker_.session_closed(*this);
  client_.transport->close();
  client_.ticket.release();
}

}  // namespace sluice::gateway
