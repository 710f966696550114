// Trying again: whether, when, and what the failed try says of its endpoint.
#include <algorithm>
#include <ctime>

#include "gateway/http/exchange.h"
#include "gateway/http1/retry_after.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

bool Exchange::try_again(std::uint32_t condition, Outcome outcome) {
  if (mediator_ && fail_over(outcome, 0)) return true;
  const policy::Retry& retry = cluster_->config().retry;
  // A call of gRPC is a POST, whatever it does: who names a status of calls says that they may be
  // repeated.
  const bool safe = condition == policy::kRetryConnectFailure ||
                    (condition & policy::kRetryGrpc) != 0 || repeatable();
  if ((retry.retry_on & condition) == 0 || !safe || !replayable() || tries_ >= retry.attempts ||
      tries_ >= kMaxTries) {
    return false;
  }
  const auto pause = retry_pause(condition);
  if (!pause) return false;
  // One share of the budget for all retries of a request.
  if (!retrying_ && !cluster_->state().retries().try_begin_retry(
                        retry.budget_percent, cluster_->config().circuit_breakers.retries)) {
    worker_.metrics().retry_refused(config_->slots().upstreams[upstream_index_]);
    return false;
  }
  worker_.metrics().retried(config_->slots().upstreams[upstream_index_]);
  tried_[tries_++] = &attempt_.endpoint();
  drop_upstream();
  end_try(outcome, 0);
  retrying_ = true;
  fresh_only_ = false;
  if (pause->count() == 0) {
    pick();
  } else {
    state_ = State::backing_off;
    // By the exact clock: an origin that named a time is not asked before it.
    worker_.wheel().arm_at(timer_, Clock::now() + *pause);
    client_->watch();
  }
  return true;
}

// nullopt: the origin asks for more patience than retries have; the client shall decide.
std::optional<std::chrono::nanoseconds> Exchange::retry_pause(std::uint32_t condition) const {
  const policy::Retry& retry = cluster_->config().retry;
  constexpr std::uint32_t kAsking = policy::kRetry503 | policy::kRetry429;
  if ((condition & kAsking) != 0 && retry.max_retry_after.count() > 0) {
    const auto text = upstream_->response().fields().first("retry-after");
    if (const auto wanted = http1::parse_retry_after(text, std::time(nullptr));
        wanted && wanted->count() > 0) {
      if (*wanted > retry.max_retry_after) return std::nullopt;
      return *wanted;
    }
  }
  // Nothing has been asked of the others yet: they need no rest.
  constexpr std::uint32_t kNotReached = policy::kRetryConnectFailure | policy::kRetryReset;
  if ((condition & kNotReached) != 0 && tries_ + 1 < cluster_->endpoints().size()) {
    return std::chrono::nanoseconds(0);
  }
  // Full jitter, so that many that failed together do not come back together.
  const auto most = std::min(retry.max_back_off, retry.back_off * (1u << std::min(tries_, 16u)));
  const double share = static_cast<double>(worker_.random() >> 11) * 0x1p-53;
  return std::chrono::nanoseconds(
      static_cast<std::int64_t>(static_cast<double>(most.count()) * share));
}

void Exchange::on_try_timer() {
  if (head_forwarded_ || !attempt_) return;
  if (picked_ != Clock::time_point{}) count_failure(UpstreamFailure::timeout);  // it was sent
  if (try_again(policy::kRetry504, Outcome::timeout)) return;
  drop_upstream();
  end_attempt(Outcome::timeout);
  refuse(504, "upstream timeout (per_try_timeout)");
}

// Harmless when there is none. With it goes all that an exchange holds of its upstream's.
void Exchange::end_attempt(Outcome outcome, int status) {
  end_try(outcome, status);
  end_retries();
}

// The share of the retry budget stays, for the next one.
void Exchange::end_try(Outcome outcome, int status) {
  waiter_.leave();
  try_timer_.cancel();
  if (attempt_) {
    const Clock::time_point now = Clock::now();
    worker_.metrics().upstream_request_ended(endpoint_slot_, status);
    trace_try(outcome, status);
    if (cluster_->config().lb_policy == policy::LbPolicy::peak_ewma) observe_latency(outcome, now);
    attempt_.finish(outcome, now);
  }
  attempt_ = {};
}

void Exchange::end_retries() {
  if (std::exchange(retrying_, false)) cluster_->state().retries().retry_ended();
}

// Until the answer's first byte: how long it then goes on is not the endpoint's doing.
void Exchange::observe_latency(Outcome outcome, Clock::time_point now) {
  if (outcome == Outcome::neutral) return;
  std::chrono::nanoseconds latency = (first_byte_ > picked_ ? first_byte_ : now) - picked_;
  if (picked_ == Clock::time_point{}) {  // it was never sent
    latency = cluster_->config().timeouts.connect;  // a refusal is quick, but no recommendation
  }
  attempt_.endpoint().observe_latency(latency, now);
}

}  // namespace sluice::gateway::http
