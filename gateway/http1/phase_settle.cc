// Phases settle and log: what becomes of both connections, and what is remembered.
#include "gateway/http1/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {

void Exchange::settle() {
  if (attempt_) {
    const bool reusable = response_.keep_alive() && request_complete() && !send_broken_ &&
                          to_upstream_.empty() && received_begin_ == received_end_;
    WorkerMetrics& metrics = worker_.metrics();
    metrics.upstream_bytes(endpoint_slot_, bytes_to_upstream_, bytes_from_upstream_);
    metrics.upstream_first_byte(endpoint_slot_, first_byte_ - picked_);
    if (reusable) {
      upstream_->set_user(nullptr);
      worker_.upstreams().give_back(std::move(upstream_));
      upstream_ = {};
    }
    // Anything else is closed: bytes behind the answer must never be another client's.
    drop_upstream();
    end_attempt(response_.status() >= 500 ? Outcome::server_error : Outcome::success,
                response_.status());
  }
  log();
  end(after_response());
}

After Exchange::after_response() const {
  if (!close_after_ && may_keep_client()) return After::keep_alive;
  return linger_after_ ? After::linger : After::close;
}

// The client cannot get an answer, or no more of it.
void Exchange::client_gone(std::string_view reason) {
  drop_upstream();
  end_attempt(Outcome::neutral);
  reason_.assign(reason);
  log();
  end(After::close);
}

// The answer has begun and cannot be finished: the client must not take it for a whole one.
void Exchange::cut_short(std::string_view reason) {
  drop_upstream();
  end_attempt(Outcome::reset);
  reason_.assign(reason);
  log();
  const bool ends_by_close =
      forwarded_.body != BodyRelay::none && forwarded_.close &&
      (response_.body() == BodyKind::until_close || forwarded_.body == BodyRelay::dechunk);
  end(ends_by_close ? After::reset : After::close);
}

void Exchange::end(After after) {
  timer_.cancel();
  deadline_.cancel();
  state_ = State::ended;
  worker_.buffers().give_back(std::move(received_));
  config_.reset();
  Connection& connection = *std::exchange(connection_, nullptr);
  connection.exchange_ended(after, body_at_);
}

void Exchange::log() {
  const Clock::time_point now = Clock::now();
  const Listener& listener = connection_->listener();
  WorkerMetrics& metrics = worker_.metrics();
  const MetricSlots& slots = config_->slots();
  const auto index = config_->snapshot().find_listener(listener.name());
  const RouteSlot slot = route_ ? slots.routes[*route_] : slots.default_routes[index.value_or(0)];
  metrics.request_ended(listener.slot(), slot, status_, now - begun_);
  metrics.client_bytes(listener.slot(), body_at_, bytes_to_client_);

  if (!worker_.access_log().enabled()) return;
  AccessRing& ring = worker_.access_ring();
  AccessRecord* record = ring.begin();
  if (record == nullptr) return;
  record->kind = AccessRecord::Kind::request;
  record->way = listener.way();
  record->time = std::chrono::system_clock::now();
  record->connection = connection_->id();
  record->request = connection_->requests();
  record->attempts = cluster_ != nullptr ? tries_ + 1 : 0;
  record->status = status_;
  record->bytes_in = body_at_;
  record->bytes_out = bytes_to_client_;
  record->total = now - begun_;
  if (picked_ != Clock::time_point{}) record->connect = picked_ - begun_;
  if (first_byte_ != Clock::time_point{}) record->first_byte = first_byte_ - picked_;
  record->client = connection_->peer();
  if (destination_) record->destination = *destination_;
  record->endpoint = endpoint_;
  record->listener.assign(listener.name());
  if (body_at_ > 0) {  // the head was understood
    record->method.assign(request_.method_name());
    record->host.assign(host_);
    record->set_target(request_.target());
  }
  if (route_) record->route.assign(config_->policy().routes[*route_].name);
  if (cluster_ != nullptr) record->upstream.assign(cluster_->name());
  record->reason.assign(reason_);
  ring.commit();
}

}  // namespace sluice::gateway::http1
