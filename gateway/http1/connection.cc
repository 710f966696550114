#include "gateway/http1/connection.h"

#include <algorithm>
#include <cstring>

#include "gateway/http1/client_stream.h"
#include "gateway/http2/connection.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {
namespace {

constexpr std::chrono::seconds kLinger{2};
constexpr std::chrono::seconds kLastCall{1};
constexpr std::size_t kLingerBytes = 1 << 20;  // then the client has had its chance

}  // namespace

Connection::Connection(Worker& worker) : worker_(worker) {}
Connection::~Connection() = default;

void Connection::start(Worker& worker, Client client) {
  const RefPtr<Connection> connection(worker.connections().take(worker));
  connection->client_.emplace(std::move(client));
  connection->client_->transport->set_user(connection.get());
  connection->self_ = connection;
  worker.session_opened(*connection);
  // The client's first bytes are often there already.
  connection->on_readable();
}

void Connection::recycle() {
  client_.reset();
  requests_ = 0;
  filled_ = 0;
  discarded_ = 0;
  eof_ = lingering_ = proceeding_ = again_ = false;
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
  const Received received = transport().read({buffer_->bytes + filled_, Buffer::kSize - filled_});
  filled_ += received.bytes;
  eof_ = received.result == ReadResult::eof;
  if (filled_ == 0) worker_.buffers().give_back(std::move(buffer_));
  return received.result;
}

void Connection::drop_input(std::size_t from, std::size_t to) {
  std::memmove(buffer_->bytes + from, buffer_->bytes + to, filled_ - to);
  filled_ -= to - from;
}

void Connection::forget_input() {
  filled_ = 0;
  worker_.buffers().give_back(std::move(buffer_));
}

void Connection::want_read() {
  if (!eof_) transport().want_read();
}

Flush Connection::send(Outbox& outbox, std::uint64_t& sent) {
  return transport().write(outbox, sent);
}

void Connection::on_readable() {
  const RefPtr<Connection> guard(this);
  if (lingering_) return discard();
  if (exchange_) return exchange_->on_client_readable();
  switch (read()) {
    case ReadResult::data:
      return proceed();
    case ReadResult::again:
      return ends() ? last_call() : wait_idle();
    default:
      return close(false);
  }
}

void Connection::on_writable() {
  const RefPtr<Connection> guard(this);
  if (exchange_) exchange_->on_client_writable();
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
      if (requests_ == 0 && http2::kPreface.starts_with(input().substr(0, 3))) {
        if (become_http2()) return;
        break;
      }
      if (!begin_exchange()) break;
    } else if (self_ && !exchange_) {
      if (eof_) {
        close(false);
      } else if (ends()) {
        last_call();
      } else {
        wait_idle();
      }
    }
  } while (again_ && self_);
  proceeding_ = false;
}

// A client that knows beforehand begins with HTTP/2's preface (RFC 9113 section 3.4), of which the
// first three bytes are no method of ours.
bool Connection::become_http2() {
  if (!http2::kPreface.starts_with(input().substr(0, http2::kPreface.size()))) {
    begin_exchange();
    return false;
  }
  if (input().size() < http2::kPreface.size()) {
    if (!timer_.armed()) worker_.wheel().arm(timer_, listener().policy().timeouts.head);
    want_read();
    return false;
  }
  const RefPtr<Connection> guard = std::move(self_);
  const BufferPtr bytes = std::move(buffer_);
  http2::Connection::start(worker_, take_client(), {bytes->bytes, filled_});
  worker_.session_closed(*this);
  return true;
}

bool Connection::begin_exchange() {
  if (exchange_) return false;
  timer_.cancel();
  ++requests_;
  exchange_ = worker_.http1_clients().take(worker_);
  exchange_->begin(*this);
  return true;
}

void Connection::wait_idle() {
  worker_.buffers().give_back(std::move(buffer_));
  if (!timer_.armed()) worker_.wheel().arm(timer_, listener().policy().timeouts.idle);
  want_read();
}

void Connection::exchange_ended(After after, std::size_t used) {
  worker_.http1_clients().give_back(std::move(exchange_));
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
  client_->transport->set_user(nullptr);
  Client client = std::move(*client_);
  client_.reset();
  return client;
}

void Connection::linger() {
  if (eof_) return close(false);
  transport().shutdown_write();
  lingering_ = true;
  worker_.wheel().arm(timer_, kLinger);
  discard();
}

void Connection::discard() {
  if (!buffer_) buffer_ = worker_.buffers().take();
  while (discarded_ < kLingerBytes) {
    const Received received = transport().read(buffer_->bytes);
    discarded_ += received.bytes;
    if (received.result == ReadResult::data) continue;
    if (received.result != ReadResult::again) break;
    worker_.buffers().give_back(std::move(buffer_));
    return want_read();
  }
  close(false);
}

void Connection::on_timer() {
  const RefPtr<Connection> guard(this);
  close(false);
}

bool Connection::ends() const {
  return worker_.draining() || listener().gone() || client_->ends_at.has_value();
}

// A request that is here already is still answered, and so is one that is on its way: closing over
// it would lose it, and a client may not repeat every request (RFC 9112 section 9.3.1).
void Connection::drain() {
  if (exchange_ || lingering_) return;
  const RefPtr<Connection> guard(this);
  switch (read()) {
    case ReadResult::data:
      return proceed();
    case ReadResult::again:
      return last_call();
    default:
      close(false);
  }
}

// Who asks within this time hears `Connection: close`; the others are idle, and expect to be closed.
void Connection::last_call() {
  worker_.buffers().give_back(std::move(buffer_));
  timer_.cancel();
  worker_.wheel().arm(timer_, std::min<policy::Duration>(kLastCall, listener().policy().timeouts.idle));
  want_read();
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
    transport().close_with_reset();
  } else {
    transport().close();
  }
  client_->ticket.release();
}

}  // namespace sluice::gateway::http1
