// Phases head and target: a whole, well-formed head, and what it asks for in one form.
#include "gateway/http/exchange.h"
#include "gateway/http/grpc.h"
#include "gateway/worker.h"
#include "policy/host.h"

namespace sluice::gateway::http {

void Exchange::head() {
  const ReadHead read = client_->read_head(request_);
  switch (read.state) {
    case ReadHead::State::complete:
      timer_.cancel();
      head_read_ = true;
      return target();
    case ReadHead::State::failed:
      return refuse_malformed(read.error);
    case ReadHead::State::need_more:
      if (!timer_.armed()) worker_.wheel().arm(timer_, timeouts().head);
      return client_->want_read();
    case ReadHead::State::gone:
      return client_gone("client closed within the head");
  }
}

void Exchange::refuse_malformed(ParseError error) {
  worker_.metrics().parse_error(listener().slot(), static_cast<std::size_t>(error));
  worker_.strike(*config_, listener(), policy::BanEvent::malformed_request, std::nullopt,
                 client_address(), address_claimed_);
  client_->close_after(true);
  make_request_id();  // of a head that cannot be read
  refuse(http1::status(error), http1::reason(error));
}

void Exchange::target() {
  find_client();
  correlate();
  request_done_ = request_.body() == BodyKind::none;
  grpc_ = grpc::is_content_type(request_.fields().first(http1::KnownField::content_type));
  if (!admit()) return;
  if (request_.method() == Method::connect) return refuse(405, "CONNECT is not offered");
  if (!normalise_target()) return;
  route();
}

// New work is refused before it costs anything; on a connection that was let in, what comes is
// served, but the place is wanted back.
bool Exchange::admit() {
  const Pressure pressure = worker_.overload().pressure(listener().open_connections(),
                                                        listener().policy().max_connections);
  if (pressure == Pressure::none) return true;
  client_->close_after(false);
  if (pressure == Pressure::connections && client_->number() > 1) return true;
  worker_.metrics().shed(listener().slot(), pressure == Pressure::memory);
  refuse_after(503, pressure == Pressure::memory ? "overload: memory" : "overload: connections",
               worker_.overload().retry_after());
  return false;
}

// What is matched is what the upstream gets: two views of one path would be a bypass.
bool Exchange::normalise_target() {
  if (request_.path_is_normal()) {
    normal_path_ = request_.path();
  } else {
    path_.resize(request_.path().size());
    const auto path = http1::normalise_path(request_.path(), path_);
    if (!path) {
      refuse_malformed(path.error());
      return false;
    }
    normal_path_ = *path;
  }
  // A host in no known form must not pass for none: it would get what is meant for any.
  const auto host = policy::normalise_host(request_.authority(), host_memory_);
  if (!host) {
    client_->close_after(true);
    refuse(400, "malformed host");
    return false;
  }
  host_ = *host;
  return true;
}

}  // namespace sluice::gateway::http
