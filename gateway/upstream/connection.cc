#include "gateway/upstream/connection.h"

#include <utility>

#include "gateway/tcp_sample.h"
#include "gateway/tls/stream.h"
#include "gateway/upstream/pool.h"
#include "gateway/upstream/worker_state.h"

namespace sluice::gateway {

UpstreamConnection::UpstreamConnection(TimerWheel& wheel)
    : wheel_(wheel), timer_(WheelTimer::calling<&UpstreamConnection::on_timer>(this)) {}

UpstreamConnection::~UpstreamConnection() = default;

Endpoint& UpstreamConnection::endpoint() const {
  return pool_->endpoint();
}

std::optional<NetworkSample> UpstreamConnection::sample_network() {
  constexpr std::uint32_t kEach = 16;
  if (samples_asked_++ % kEach != 0 || !transport_ || !transport_->is_open()) return std::nullopt;
  auto sample = sample_tcp(transport_->fd());
  if (sample)
    sample->retransmits -= std::exchange(retransmits_seen_, sample->retransmits);
  return sample;
}

void UpstreamConnection::rest() {
  if (!age_hook.is_linked()) pool_->keep_idle(*this);
}

void UpstreamConnection::resume() {
  if (state_ == State::in_use && age_hook.is_linked()) pool_->leave_idle(*this);
}

void UpstreamConnection::make_room() {
  const RefPtr<UpstreamConnection> self(this);
  resume();
  if (state_ == State::in_use && user_ != nullptr) user_->on_place_wanted();
  close();
}

TransportPtr UpstreamConnection::take_transport() {
  transport_->set_user(nullptr);
  return std::move(transport_);
}

void UpstreamConnection::close() {
  end(false);
}

void UpstreamConnection::reset() {
  end(true);
}

void UpstreamConnection::end(bool with_reset) {
  if (state_ == State::closed) return;
  const RefPtr<UpstreamConnection> self(this);
  resume();
  if (state_ == State::idle) leave_pool();
  state_ = State::closed;
  handshaking_ = false;
  handler_ = nullptr;
  user_ = nullptr;
  timer_.cancel();
  if (const TransportPtr transport = std::move(transport_)) {
    with_reset ? transport->close_with_reset() : transport->close();
  }
  if (std::exchange(counted_, false)) pool_->release_place();
}

void UpstreamConnection::recycle() {
  // close() takes a reference of its own while it works; what it releases must not end here again.
  if (state_ != State::closed) return close();
  attachment_.reset();
  requests_ = 0;
  tls_.reset();
  tls_sessions_.reset();
  introduction_.clear();
  inside_ = Inside::unsaid;
  samples_asked_ = retransmits_seen_ = 0;
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

void UpstreamConnection::connect_ended() {
  if (const auto failure = connection_result(transport_->fd())) return fail_connect(*failure);
  introduce();
  if (tls_) return begin_tls(handler_->alpn_offer());
  finish_connect();
}

// The socket is new, so that it takes this much; should it not, it is broken, as the next write
// finds.
void UpstreamConnection::introduce() {
  std::size_t sent = 0;
  if (!introduction_.empty() && transport_->send(introduction_, sent) != Flush::done)
    transport_->shutdown_write();
}

void UpstreamConnection::begin_tls(tls::AlpnOffer offer) {
  const Endpoint& endpoint = pool_->endpoint();
  tls_sessions_ = pool_->tls_sessions(tls_);
  tls::SslPtr ssl =
      tls_->connect(endpoint.server_name(), endpoint.address().address, offer, tls_sessions_.get());
  if (!ssl) return fail_connect({.reason = ConnectError::out_of_descriptors, .step = "SSL_new"});
  transport_->set_tls(std::make_unique<TlsStream>(std::move(ssl)));
  handshaking_ = true;
  continue_tls();
}

void UpstreamConnection::continue_tls() {
  TlsStream& stream = *transport_->tls();
  switch (stream.handshake()) {
    case TlsStream::Step::wants_read:
      return transport_->want_read();
    case TlsStream::Step::wants_write:
      return transport_->want_write();
    case TlsStream::Step::failed:
      return fail_connect({.reason = ConnectError::tls, .step = stream.reason()});
    case TlsStream::Step::done:
      break;
  }
  const std::string_view protocol = stream.protocol();
  inside_ = protocol == "h2"         ? Inside::http2
            : protocol == "http/1.1" ? Inside::http1
                                     : Inside::unsaid;
  finish_connect();
}

void UpstreamConnection::finish_connect() {
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
  handshaking_ = false;
  requests_ = 1;
  connect_time_ = std::chrono::steady_clock::now() - began_;
  pool_->count_established();
}

// An idle peer has nothing to say: whatever it sends ends the connection. TLS has (tickets, keys).
void UpstreamConnection::idle_readable() {
  char byte = 0;
  if (transport_->read({&byte, 1}).result != ReadResult::again) return close();
  want_read();
}

void UpstreamConnection::on_readable() {
  const RefPtr<UpstreamConnection> self(this);
  if (handshaking_) return continue_tls();
  if (state_ == State::idle) return idle_readable();
  if (state_ == State::in_use && user_ != nullptr) user_->on_upstream_readable();
}

void UpstreamConnection::on_writable() {
  const RefPtr<UpstreamConnection> self(this);
  if (handshaking_) return continue_tls();
  if (state_ == State::connecting) return connect_ended();
  if (state_ == State::in_use && user_ != nullptr) user_->on_upstream_writable();
}

void UpstreamConnection::leave_pool() {
  pool_->leave_idle(*this);
  kept_.reset();
}

}  // namespace sluice::gateway
