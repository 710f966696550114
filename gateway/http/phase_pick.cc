// Phases pick and connect, with the queue before them, and what leads back to them.
#include <algorithm>
#include <span>

#include "gateway/express.h"
#include "gateway/http/exchange.h"
#include "gateway/http1/request_fields.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"
#include "policy/express.h"

namespace sluice::gateway::http {

void Exchange::pick() {
  state_ = State::connecting;
  picked_ = first_byte_ = {};
  // The policy that ended its TLS is not the one of now.
  if (client_->client().decrypted && cluster_->config().original_destination && !cluster_->tls()) {
    client_->close_after(true);
    return refuse(421, "decrypted: its original destination would get it in clear text");
  }
  if (cluster_->config().original_destination && !destination_) {
    destination_ =
        reachable_destination(worker_, listener().way(), client_->client().transport->fd());
  }
  auto attempt = worker_.upstreams().begin(*cluster_, pick_request());
  if (!attempt) return nobody_picked(attempt.error());
  attempt_ = std::move(*attempt);
  attempt_.want_express(suits_express());
  endpoint_ = attempt_.endpoint().address();
  endpoint_slot_ = endpoint_slot(*config_, upstream_index_, attempt_);
  worker_.metrics().upstream_request_begun(endpoint_slot_);
  begin_try_span();
  connect();
}

// What may be longer than the lane takes without a word of the origin goes on a connection outside
// of it: there are origins that hang when a connection turns to TCP (docs/express.md). Streams of
// gRPC are many messages, most of them small.
bool Exchange::suits_express() const {
  const policy::Upstream& upstream = cluster_->config();
  if (!policy::upstream_in_lane(listener().policy(), upstream)) return false;
  if (!request_.upgrade().empty()) return false;
  if (grpc_) return true;
  return request_.body() == BodyKind::none ||
         (request_.body() == BodyKind::length && request_.content_length() <= ExpressLane::kShort);
}

PickRequest Exchange::pick_request() {
  PickRequest wanted{.exclude = std::span(tried_.data(), std::min<std::size_t>(tries_, kMaxTries)),
                     .original_destination = destination_,
                     .server_name = host_};
  if (cluster_->config().lb_policy == policy::LbPolicy::maglev) wanted.hash = hash_value();
  if (cluster_->sticky() != nullptr) wanted.sticky = sticks_to_ = sticky_endpoint();
  return wanted;
}

std::uint64_t Exchange::hash_value() {
  const http1::RequestFields fields(request_, joined_field_);
  if (const auto& on = cluster_->config().hash_on) {
    const std::string_view name = on->cookie.empty() ? std::string_view(on->header) : "cookie";
    if (const auto value = fields.field(name)) {
      if (on->cookie.empty()) return policy::balancing_hash(*value);
      if (const auto cookie = cookie_value(*value, on->cookie)) {
        return policy::balancing_hash(*cookie);
      }
    }
  }
  const auto& bytes = address_.bytes();
  return policy::balancing_hash({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::optional<std::uint32_t> Exchange::sticky_endpoint() {
  const http1::RequestFields fields(request_, joined_field_);
  const auto line = fields.field("cookie");
  if (!line) return std::nullopt;
  const auto value = cookie_value(*line, cluster_->sticky()->name());
  return value ? cluster_->sticky()->find(*value) : std::nullopt;
}

// The answer tells a client where it was served, unless it knows.
void Exchange::stick_to_endpoint(AnswerEdits& edits) {
  const StickyCookies* sticky = cluster_->sticky();
  if (sticky == nullptr || !attempt_ || sticks_to_ == attempt_.index()) return;
  if (edits.lines.empty()) answer_lines_.clear();  // else they are what is there already
  answer_lines_.append("Set-Cookie: ").append(sticky->set_cookie(attempt_.index()));
  answer_lines_.append(client_scheme() == "https" ? "; Secure\r\n" : "\r\n");
  edits.lines = answer_lines_;
}

void Exchange::nobody_picked(PickError error) {
  const UpstreamSlot slot = config_->slots().upstreams[upstream_index_];
  switch (error) {
    case PickError::resolving:
      if (worker_.upstreams().wait(*cluster_, waiter_)) return client_->watch();
      [[fallthrough]];
    case PickError::no_endpoints:
      worker_.metrics().no_endpoint(slot);
      return refuse(503, "no endpoint");
    case PickError::request_limit:
      worker_.metrics().breaker_open(slot);
      return refuse(503, "upstream request limit");
    case PickError::no_original_destination:
      worker_.metrics().no_endpoint(slot);
      return refuse(508, "the connection's destination is this gateway");
  }
}

// A connection is free, or it is time to look again.
void Exchange::on_place() {
  if (attempt_) return connect();
  // DNS may have answered: the same policy on other clusters.
  if (const auto& newest = worker_.config(); &newest->snapshot() == &config_->snapshot()) {
    config_ = newest;
    cluster_ = &config_->clusters().at(upstream_index_);
  }
  pick();
}

void Exchange::on_queue_timeout() {
  const bool resolved = static_cast<bool>(attempt_);
  const UpstreamSlot slot = config_->slots().upstreams[upstream_index_];
  resolved ? worker_.metrics().breaker_open(slot) : worker_.metrics().no_endpoint(slot);
  end_attempt(Outcome::neutral);
  endpoint_ = {};  // it was chosen, and never asked
  refuse(503, resolved ? "no upstream connection within queue_timeout"
                       : "the upstream's name is not resolved");
}

std::expected<UpstreamStreamPtr, ConnectFailure> Exchange::open_stream() {
  return worker_.upstream_streams().open(attempt_, client_->client().peer.address, fresh_only_,
                                         !request_.upgrade().empty(), *this);
}

// The endpoint that was picked has no place for a connection; another may have.
std::expected<UpstreamStreamPtr, ConnectFailure> Exchange::open_elsewhere() {
  auto stream = worker_.upstreams().open_elsewhere(attempt_, pick_request(),
                                                   [this] { return open_stream(); });
  endpoint_ = attempt_.endpoint().address();
  follow_attempt(worker_, *config_, upstream_index_, attempt_, endpoint_slot_);
  return stream;
}

void Exchange::connect() {
  auto stream = open_stream();
  if (!stream && stream.error().reason == ConnectError::connection_limit) stream = open_elsewhere();
  if (!stream) return connect_failed(stream.error());
  waiter_.leave();
  upstream_ = std::move(*stream);
  if (const auto most = cluster_->config().retry.per_try_timeout; most.count() > 0) {
    worker_.wheel().arm(try_timer_, most);
  }
  if (!upstream_->connected()) return;
  count_connection();
  send();
}

std::optional<ProxiedClient> Exchange::proxied_client() const {
  const Client& client = client_->client();
  return ProxiedClient{{address_, client.peer.port}, client.wanted()};
}

void Exchange::on_upstream_connected() {
  count_connection();
  send();
}

void Exchange::count_connection() {
  if (upstream_->reused()) {
    connected_in_ = {};
    worker_.metrics().upstream_reused(endpoint_slot_);
  } else {
    connected_in_ = upstream_->connect_time();
    worker_.metrics().upstream_connected(endpoint_slot_, upstream_->connect_time());
  }
}

// What could not be understood is counted by its reason as well.
void Exchange::count_failure(UpstreamFailure failure) {
  const ParseError error = upstream_ ? upstream_->parse_error() : ParseError::none;
  if (error != ParseError::none) {
    worker_.metrics().upstream_parse_error(config_->slots().upstreams[upstream_index_],
                                           static_cast<std::size_t>(error));
  }
  worker_.metrics().upstream_failed(endpoint_slot_, failure);
}

void Exchange::on_upstream_connect_failed(const ConnectFailure& failure) {
  connect_failed(failure);
}

void Exchange::connect_failed(const ConnectFailure& failure) {
  if (failure.reason == ConnectError::connection_limit &&
      worker_.upstreams().wait(*cluster_, waiter_)) {
    return client_->watch();
  }
  drop_upstream();
  constexpr std::uint32_t kMaxProtocolChanges = 3;  // an endpoint whose ALPN differs each time
  if (failure.reason == ConnectError::other_protocol && ++protocol_changes_ <= kMaxProtocolChanges)
    return connect();
  if (failure.reason == ConnectError::tls) worker_.metrics().upstream_tls_failed(endpoint_slot_);
  worker_.metrics().upstream_connect_failed(endpoint_slot_,
                                            static_cast<std::size_t>(failure.reason));
  if (!blames_endpoint(failure.reason)) {
    if (failure.reason == ConnectError::connection_limit) {
      worker_.metrics().breaker_open(config_->slots().upstreams[upstream_index_]);
      endpoint_ = {};  // it was chosen, and never asked
    }
    end_attempt(Outcome::neutral);
    return refuse(503, to_string(failure.reason));
  }
  const bool timed_out = failure.reason == ConnectError::timed_out;
  const Outcome outcome = timed_out ? Outcome::connect_timeout : Outcome::connect_failure;
  if (try_again(policy::kRetryConnectFailure, outcome)) return;
  end_attempt(outcome);
  refuse(timed_out ? 504 : 502,
         failure.reason == ConnectError::tls ? failure.to_string() : to_string(failure.reason));
}

// A second answer of a model's costs money, and does nothing else.
bool Exchange::repeatable() const {
  return mediator_ || is_idempotent(request_.method());
}

bool Exchange::replayable() const {
  return interim_ == 0 && !head_forwarded_ && (mediator_ || client_->can_rewind()) &&
         (state_ == State::connecting || request_done_);
}

// The connection ended before a byte of the answer. A POST that was written may have been acted
// upon (TCP's acknowledgements say nothing: they are delayed), so it is not sent again.
void Exchange::upstream_failed() {
  if (upstream_->takes_no_upgrade()) {
    const std::string_view why = upstream_->failure();  // a literal
    drop_upstream();
    end_attempt(Outcome::neutral);  // else any client could have the endpoint ejected
    return refuse(502, why);
  }
  const bool idempotent = repeatable();
  // Connections that the peer lets go while requests are on their way to it follow on each other.
  constexpr std::uint32_t kMaxUnprocessed = 4;
  if (upstream_->unprocessed() && unprocessed_ < kMaxUnprocessed && interim_ == 0 &&
      client_->can_rewind()) {
    // Said to have been looked at by nobody: safe whatever the method.
    ++unprocessed_;
    fresh_only_ = true;
    drop_upstream();
    end_attempt(Outcome::neutral);
    return pick();
  }
  if (upstream_->reused() && !fresh_only_ && replayable() &&
      (idempotent || upstream_->bytes_out() == 0)) {
    // The origin closed a connection that it had kept open: no fault of the request's.
    worker_.metrics().upstream_stale(endpoint_slot_);
    fresh_only_ = true;
    drop_upstream();
    end_attempt(Outcome::neutral);
    return pick();
  }
  const std::string_view known = upstream_->failure();  // a literal
  count_failure(upstream_->parse_error() == ParseError::none ? UpstreamFailure::reset
                                                             : UpstreamFailure::malformed);
  if (try_again(policy::kRetryReset, Outcome::reset)) return;
  drop_upstream();
  end_attempt(Outcome::reset);
  refuse(502, known.empty() ? "upstream closed the connection without an answer" : known);
}

void Exchange::drop_upstream() {
  if (subrequest_) subrequest_->cancel();
  authority_waiter_.leave();
  timer_.cancel();
  upstream_.reset();
  send_broken_ = false;
  answer_begun_ = false;
}

}  // namespace sluice::gateway::http
