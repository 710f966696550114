#include "gateway/http1/exchange.h"

#include "gateway/worker.h"

namespace sluice::gateway::http1 {

Exchange::Exchange(Worker& worker) : worker_(worker) {}

void Exchange::begin(Connection& connection) {
  reset();
  connection_ = &connection;
  config_ = worker_.config();
  begun_ = Clock::now();
  worker_.metrics().request_begun(connection.listener().slot());
  head();
}

void Exchange::reset() {
  state_ = State::head;
  request_parser_.reset();
  response_parser_.reset();
  request_body_.begin(BodyKind::none, 0, BodyRelay::none);
  response_body_.begin(BodyKind::none, 0, BodyRelay::none);
  body_at_ = 0;
  normal_path_ = {};
  host_ = {};
  route_.reset();
  cluster_ = nullptr;
  destination_.reset();
  tries_ = 0;
  interim_ = 0;
  status_ = 0;
  received_begin_ = received_end_ = 0;
  bytes_to_client_ = bytes_to_upstream_ = bytes_from_upstream_ = 0;
  body_dropped_ = fresh_only_ = send_broken_ = upstream_drained_ = answer_begun_ = false;
  head_forwarded_ = response_complete_ = close_after_ = linger_after_ = false;
  picked_ = sent_ = first_byte_ = {};
  reason_.clear();
  endpoint_ = {};
  to_client_.clear();
  to_upstream_.clear();
}

const policy::ListenerTimeouts& Exchange::timeouts() const {
  return connection_->listener().policy().timeouts;
}

bool Exchange::may_keep_client() const {
  return !worker_.draining() && !connection_->listener().gone();
}

void Exchange::on_client_readable() {
  const RefPtr<Connection> guard(connection_);
  if (state_ == State::head) return head();
  if (!request_complete() && state_ == State::exchanging && !send_broken_) return pump_request();
  // Nothing is wanted now: a pipelined request, which waits, or the client's end.
  switch (connection_->read()) {
    case ReadResult::failed:
      return client_gone("client reset");
    case ReadResult::data:
    case ReadResult::again:
    case ReadResult::full:  // read on when this exchange has ended
    case ReadResult::eof:   // half-closed: it may still read the answer
      return;
  }
}

void Exchange::on_client_writable() {
  const RefPtr<Connection> guard(connection_);
  if (!to_client_.empty()) relay();
}

void Exchange::on_upstream_writable() {
  const RefPtr<Connection> guard(connection_);
  if (!to_upstream_.empty()) pump_request();
}

void Exchange::on_upstream_readable() {
  const RefPtr<Connection> guard(connection_);
  upstream_drained_ = false;
  if (to_client_.empty()) relay();  // else: the client reads too slowly, so the origin waits
}

// How long the next step may take. One timer serves both directions: what is waited for says which.
std::chrono::nanoseconds Exchange::patience() const {
  if (state_ == State::refusing || !to_client_.empty() || !request_complete() || head_forwarded_) {
    return timeouts().body_idle;
  }
  return cluster_->config().timeouts.first_byte;
}

void Exchange::rearm() {
  worker_.wheel().arm(timer_, patience());
}

void Exchange::on_timer() {
  const RefPtr<Connection> guard(connection_);
  if (state_ == State::head) return head_timeout();
  if (!to_client_.empty()) return client_gone("client reads nothing");
  if (head_forwarded_) return cut_short("upstream stalled in the body");
  if (!request_complete() && to_upstream_.empty()) {
    drop_upstream();
    end_attempt(Outcome::neutral);
    close_after_ = linger_after_ = true;
    return refuse(408, "request body stalled");
  }
  if (try_again(policy::kRetry504, Outcome::timeout)) return;
  drop_upstream();
  end_attempt(Outcome::timeout);
  refuse(504, "upstream timeout");
}

void Exchange::on_deadline() {
  const RefPtr<Connection> guard(connection_);
  drop_upstream();
  end_attempt(Outcome::neutral);
  if (head_forwarded_ || !to_client_.empty()) return cut_short("route timeout");
  refuse(504, "route timeout");
}

void Exchange::cancel() {
  const RefPtr<Connection> guard(connection_);
  client_gone("cancelled");
}

}  // namespace sluice::gateway::http1
