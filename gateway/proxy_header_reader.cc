#include "gateway/proxy_header_reader.h"

#include <array>
#include <cerrno>
#include <sys/socket.h>

#include "gateway/proxy_protocol.h"
#include "gateway/worker.h"

namespace sluice::gateway {
namespace {

constexpr std::chrono::milliseconds kLookAgain{10};  // while a part of it is there

}  // namespace

void ProxyHeaderReader::start(Worker& worker, Client client) {
  auto reader = make_ref<ProxyHeaderReader>(worker, std::move(client));
  reader->client_.transport->set_user(reader.get());
  reader->self_ = reader;
  worker.session_opened(*reader);
  reader->look();
}

ProxyHeaderReader::ProxyHeaderReader(Worker& worker, Client client)
    : worker_(worker),
      client_(std::move(client)),
      listener_(RefPtr(&client_.ticket.listener())),
      deadline_(worker.wheel().now() + listener_->policy().timeouts.head) {}

// Looked at before it is taken, so that not a byte of the client's is.
void ProxyHeaderReader::look() {
  std::array<char, kMaxProxyHeader> bytes;
  const int fd = client_.transport->fd();
  const ssize_t n = ::recv(fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n == 0) return abort();
  if (n < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return abort();
    worker_.wheel().arm_at(timer_, deadline_);
    return client_.transport->want_read();
  }
  ProxyHeader header;
  switch (parse_proxy_header({bytes.data(), static_cast<std::size_t>(n)},
                             listener_->policy().accept_proxy_protocol, header)) {
    case ProxyHeaderState::malformed:
      return refuse("no PROXY header, or a malformed one");
    case ProxyHeaderState::need_more:
      // The bytes stay where they are, so the socket is readable all the time: look by the clock.
      if (worker_.wheel().now() >= deadline_) return refuse("no PROXY header in time");
      return worker_.wheel().arm(timer_, kLookAgain);
    case ProxyHeaderState::complete:
      break;
  }
  if (::recv(fd, bytes.data(), header.size, MSG_DONTWAIT) != static_cast<ssize_t>(header.size))
    return refuse("no PROXY header, or a malformed one");
  if (header.source) {
    client_.peer = *header.source;
    client_.claimed_destination = header.destination;
    client_.peer_claimed = true;
  }
  const RefPtr<ProxyHeaderReader> guard = std::move(self_);
  timer_.cancel();
  client_.transport->set_user(nullptr);
  if (listener_->admit(client_)) {
    worker_.identified(std::move(client_));
  } else {
    client_.transport->close_with_reset();
    client_.ticket.release();
  }
  worker_.session_closed(*this);  // last, so that a drain does not end between the two
}

void ProxyHeaderReader::on_readable() {
  const RefPtr<ProxyHeaderReader> guard(this);
  look();
}

void ProxyHeaderReader::on_timer() {
  const RefPtr<ProxyHeaderReader> guard(this);
  if (worker_.wheel().now() >= deadline_) return refuse("no PROXY header in time");
  look();
}

void ProxyHeaderReader::refuse(std::string_view why) {
  worker_.metrics().proxy_header_refused(listener_->slot());
  listener_->log_refused(client_.peer, client_.id, why);
  abort();
}

void ProxyHeaderReader::abort() {
  if (!self_) return;
  const RefPtr<ProxyHeaderReader> guard = std::move(self_);
  timer_.cancel();
  worker_.session_closed(*this);
  client_.transport->close();
  client_.ticket.release();
}

}  // namespace sluice::gateway
