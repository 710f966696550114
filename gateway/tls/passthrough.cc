#include "gateway/tls/passthrough.h"

#include "gateway/tcp_session.h"
#include "gateway/tls/handshake.h"
#include "gateway/worker.h"
#include "policy/host.h"

namespace sluice::gateway::tls {

void Passthrough::start(Worker& worker, Client client) {
  auto session = make_ref<Passthrough>(worker, std::move(client));
  session->client_.transport->set_user(session.get());
  session->self_ = session;
  worker.session_opened(*session);
  worker.wheel().arm(session->timer_, session->listener_->policy().timeouts.handshake);
  session->on_readable();
}

Passthrough::Passthrough(Worker& worker, Client client)
    : worker_(worker), client_(std::move(client)), listener_(RefPtr(&client_.ticket.listener())) {}

void Passthrough::on_readable() {
  const RefPtr<Passthrough> guard(this);
  BufferPtr buffer = worker_.buffers().take();
  while (true) {
    const Received got = client_.transport->read(buffer->bytes);
    if (got.result == ReadResult::data) {
      if (take({buffer->bytes, got.bytes})) continue;
    } else if (got.result == ReadResult::again) {
      client_.transport->want_read();
    } else {
      fail(Failure::closed);
    }
    break;
  }
  worker_.buffers().give_back(std::move(buffer));
}

bool Passthrough::take(std::string_view bytes) {
  bytes_ += bytes;
  switch (hello_.feed(bytes)) {
    case ClientHelloReader::State::need_more:
      return true;
    case ClientHelloReader::State::complete:
      route();
      return false;
    case ClientHelloReader::State::not_tls:
      fail(Failure::not_tls);
      return false;
    case ClientHelloReader::State::malformed:
      break;
  }
  fail(Failure::malformed);
  return false;
}

// A name in no known form must not pass for none: it would get what is meant for any.
void Passthrough::route() {
  std::array<char, 256> memory;
  const auto name = policy::normalise_host(hello_.server_name(), memory);
  if (!name) return fail(Failure::malformed);
  const ServerContextPtr& context = listener_->tls();
  if (listener_->policy().tls && !context) return fail(Failure::unready);
  const RefPtr<Passthrough> guard = std::move(self_);
  timer_.cancel();
  client_.transport->set_user(nullptr);
  if (context && !name->empty() && context->ends(*name)) {
    Handshake::start(worker_, std::move(client_), std::move(bytes_));
  } else {
    TcpSession::start(worker_, std::move(client_), std::string(*name), std::move(bytes_));
  }
  worker_.session_closed(*this);  // last, so that a drain does not end between the two
}

void Passthrough::on_timer() {
  const RefPtr<Passthrough> guard(this);
  fail(Failure::timeout);
}

void Passthrough::fail(Failure failure) {
  if (bytes_.empty()) {  // as of a handshake: no offence
    worker_.metrics().tls_failed(listener_->slot(), static_cast<std::size_t>(failure));
  } else {
    worker_.tls_failed(*listener_, failure, client_);
  }
  if (failure != Failure::closed)  // who only looks whether the port is open leaves no line
    listener_->log_refused(client_.peer, client_.id, "TLS " + std::string(name(failure)));
  close();
}

void Passthrough::abort() {
  if (self_) close();
}

void Passthrough::close() {
  const RefPtr<Passthrough> guard = std::move(self_);
  timer_.cancel();
  worker_.session_closed(*this);
  client_.transport->close();
  client_.ticket.release();
}

}  // namespace sluice::gateway::tls
