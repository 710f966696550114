// Phases settle and log: what becomes of both sides, and what is remembered.
#include "gateway/http/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::settle() {
  if (attempt_) {
    const int status = upstream_->response().status();
    const Outcome outcome = outcome_of_answer();
    WorkerMetrics& metrics = worker_.metrics();
    metrics.upstream_bytes(endpoint_slot_, upstream_->bytes_out(), upstream_->bytes_in());
    metrics.upstream_first_byte(endpoint_slot_, first_byte_ - picked_);
    if (const auto sample = upstream_->sample_network()) {
      metrics.upstream_network(endpoint_slot_, *sample, first_byte_ - picked_);
    }
    upstream_.release()->release(request_done_ && !send_broken_);
    drop_upstream();
    end_attempt(outcome, status);
  }
  log();
  end(Ending::complete);
}

// A call's failure comes as 200 with a status of its own. A deadline that the caller itself has set
// says nothing about the endpoint.
Outcome Exchange::outcome_of_answer() const {
  const Outcome said = outcome_of_status(upstream_->response().status());
  if (grpc_status_ == grpc::kNoStatus || said != Outcome::success) return said;
  if (grpc_status_ == grpc::kDeadlineExceeded && !request_.fields().first("grpc-timeout").empty())
    return Outcome::neutral;
  return outcome_of_status(grpc::http_status_for(grpc_status_));
}

void Exchange::client_gone(std::string_view reason) {
  drop_upstream();
  end_attempt(Outcome::neutral);
  reason_.assign(reason);
  log();
  end(Ending::gone);
}

// The answer has begun and cannot be finished: the client must not take it for a whole one.
void Exchange::cut_short(std::string_view reason) {
  reason_.assign(reason);
  drop_upstream();
  end_attempt(Outcome::reset);
  if (mediator_) break_off_mediated(reason_);
  log();
  end(Ending::cut_short);
}

void Exchange::end(Ending ending) {
  end_attempt(Outcome::neutral);  // whichever way led here
  end_compression();
  if (mirror_) drop_mirror(MirrorResult::incomplete);
  if (mediator_) {
    if (shares_) std::exchange(shares_, nullptr)->done = nullptr;
    mediator_->ended(ending, status_);
    settle_tokens();
    mediator_.reset();
  }
  timer_.cancel();
  deadline_.cancel();
  state_ = State::ended;
  gate_.release();
  config_.reset();
  std::exchange(client_, nullptr)->ended(ending);
}

void Exchange::settle_tokens() {
  if (const auto used = mediator_->used_tokens()) gate_.settle_tokens(*used);
}

void Exchange::log() {
  const Clock::time_point now = Clock::now();
  const Listener& listener = this->listener();
  WorkerMetrics& metrics = worker_.metrics();
  const MetricSlots& slots = config_->slots();
  const auto index = config_->snapshot().find_listener(listener.name());
  const RouteSlot slot = route_ ? slots.routes[*route_] : slots.default_routes[index.value_or(0)];
  metrics.request_ended(listener.slot(), slot, status_, now - begun_);
  if (grpc_) metrics.call_ended(slot, grpc_status_);
  metrics.client_bytes(listener.slot(), client_->bytes_in(), client_->bytes_out());
  if (status_ == 401 || grpc_status_ == grpc::kUnauthenticated) {
    worker_.strike(*config_, listener, policy::BanEvent::auth_failure, route_, client_address(),
                   address_claimed_);
  }

  trace_request();
  if (!worker_.access_log().enabled()) return;
  AccessRing& ring = worker_.access_ring();
  AccessRecord* record = ring.begin();
  if (record == nullptr) return;
  record->kind = AccessRecord::Kind::request;
  record->way = listener.way();
  record->time = std::chrono::system_clock::now();
  record->connection = client_->client().id;
  record->request = client_->number();
  record->attempts = cluster_ != nullptr ? tries_ + 1 : 0;
  record->status = status_;
  record->grpc_status = grpc_status_;
  record->bytes_in = client_->bytes_in();
  record->bytes_out = client_->bytes_out();
  record->total = now - begun_;
  if (picked_ != Clock::time_point{}) {
    record->connect = connected_in_;
    record->wait = picked_ - begun_ - connected_in_;
  }
  if (first_byte_ != Clock::time_point{}) record->first_byte = first_byte_ - picked_;
  record->client = client_->client().peer;
  record->client.address = address_;
  if (destination_) record->destination = *destination_;
  record->endpoint = endpoint_;
  record->listener.assign(listener.name());
  if (head_read_) {
    record->method.assign(request_.method_name());
    record->host.assign(host_);
    record->set_target(request_.target());
  }
  if (route_) record->route.assign(config_->policy().routes[*route_].name);
  if (cluster_ != nullptr) record->upstream.assign(cluster_->name());
  record->reason.assign(reason_);
  record->request_id.assign(request_id());
  record->trace_id.assign(trace_id());
  ring.commit();
}

}  // namespace sluice::gateway::http
