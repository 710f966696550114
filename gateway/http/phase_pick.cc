// Phases pick and connect, and what leads back to them: retries.
#include <algorithm>
#include <span>

#include "gateway/http/exchange.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::pick() {
  state_ = State::connecting;
  if (cluster_->config().original_destination && !destination_) {
    destination_ =
        reachable_destination(worker_, listener().way(), client_->client().transport->fd());
  }
  auto attempt = worker_.upstreams().begin(
      *cluster_, {.exclude = std::span(tried_.data(), std::min<std::size_t>(tries_, kMaxTries)),
                  .original_destination = destination_});
  if (!attempt) {
    worker_.metrics().no_endpoint(config_->slots().upstreams[upstream_index_]);
    if (attempt.error() == PickError::no_endpoints) return refuse(503, "no endpoint");
    return refuse(508, "the connection's destination is this gateway");
  }
  attempt_ = std::move(*attempt);
  endpoint_ = attempt_.endpoint().address();
  endpoint_slot_ = endpoint_slot(*config_, upstream_index_, attempt_.endpoint());
  worker_.metrics().upstream_request_begun(endpoint_slot_);
  connect();
}

void Exchange::connect() {
  auto stream =
      worker_.upstream_streams().open(attempt_, client_->client().peer.address, fresh_only_, *this);
  if (!stream) return connect_failed(stream.error());
  upstream_ = std::move(*stream);
  if (!upstream_->connected()) return;
  count_connection();
  send();
}

void Exchange::on_upstream_connected() {
  count_connection();
  send();
}

void Exchange::count_connection() {
  if (upstream_->reused()) {
    worker_.metrics().upstream_reused(endpoint_slot_);
  } else {
    worker_.metrics().upstream_connected(endpoint_slot_, upstream_->connect_time());
  }
}

void Exchange::on_upstream_connect_failed(const ConnectFailure& failure) {
  connect_failed(failure);
}

void Exchange::connect_failed(const ConnectFailure& failure) {
  drop_upstream();
  worker_.metrics().upstream_connect_failed(endpoint_slot_);
  if (!blames_endpoint(failure.reason)) {
    if (failure.reason == ConnectError::connection_limit) {
      worker_.metrics().breaker_open(config_->slots().upstreams[upstream_index_]);
    }
    end_attempt(Outcome::neutral);
    return refuse(503, to_string(failure.reason));
  }
  const bool timed_out = failure.reason == ConnectError::timed_out;
  const Outcome outcome = timed_out ? Outcome::connect_timeout : Outcome::connect_failure;
  if (try_again(policy::kRetryConnectFailure, outcome)) return;
  end_attempt(outcome);
  refuse(timed_out ? 504 : 502, to_string(failure.reason));
}

bool Exchange::replayable() const {
  return interim_ == 0 && !head_forwarded_ && client_->can_rewind() &&
         (state_ == State::connecting || request_done_);
}

// The connection ended before a byte of the answer. A POST that was written may have been acted
// upon (TCP's acknowledgements say nothing: they are delayed), so it is not sent again.
void Exchange::upstream_failed() {
  const bool idempotent = is_idempotent(request_.method());
  if (upstream_->unprocessed() && !fresh_only_ && interim_ == 0 && client_->can_rewind()) {
    // Said to have been looked at by nobody: safe whatever the method.
    fresh_only_ = true;
    drop_upstream();
    end_attempt(Outcome::neutral);
    return pick();
  }
  if (upstream_->reused() && !fresh_only_ && replayable() &&
      (idempotent || upstream_->bytes_out() == 0)) {
    // The origin closed a connection that it had kept open: no fault of the request's.
    fresh_only_ = true;
    drop_upstream();
    end_attempt(Outcome::neutral);
    return pick();
  }
  if (try_again(policy::kRetryReset, Outcome::reset)) return;
  drop_upstream();
  end_attempt(Outcome::reset);
  refuse(502, "upstream closed the connection without an answer");
}

bool Exchange::try_again(std::uint32_t condition, Outcome outcome) {
  const policy::Retry& retry = cluster_->config().retry;
  const bool safe = condition == policy::kRetryConnectFailure || is_idempotent(request_.method());
  if ((retry.retry_on & condition) == 0 || !safe || !replayable() || tries_ >= retry.attempts ||
      tries_ >= kMaxTries) {
    return false;
  }
  const Endpoint* endpoint = &attempt_.endpoint();
  drop_upstream();
  end_attempt(outcome);
  if (!cluster_->state().retries().try_begin_retry(retry.budget_percent)) {
    worker_.metrics().retry_refused(config_->slots().upstreams[upstream_index_]);
    return false;
  }
  worker_.metrics().retried(config_->slots().upstreams[upstream_index_]);
  retrying_ = true;
  tried_[tries_++] = endpoint;
  fresh_only_ = false;
  pick();
  return true;
}

// Harmless when there is none.
void Exchange::end_attempt(Outcome outcome, int status) {
  if (attempt_) {
    worker_.metrics().upstream_request_ended(endpoint_slot_, status);
    if (attempt_.finish(outcome, Clock::now())) worker_.metrics().upstream_ejected(endpoint_slot_);
  }
  attempt_ = {};
  if (std::exchange(retrying_, false)) cluster_->state().retries().retry_ended();
}

void Exchange::drop_upstream() {
  if (subrequest_) subrequest_->cancel();
  timer_.cancel();
  upstream_.reset();
  send_broken_ = false;
  answer_begun_ = false;
}

}  // namespace sluice::gateway::http
