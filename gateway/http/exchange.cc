#include "gateway/http/exchange.h"

#include <cassert>

#include "gateway/worker.h"

namespace sluice::gateway::http {

Exchange::Exchange(Worker& worker) : worker_(worker) {}

void Exchange::begin(ClientStream& client) {
  reset();
  client_ = &client;
  // Until the head says who is behind the peer.
  address_ = client.client().peer.address;
  address_claimed_ = client.client().peer_claimed;
  behind_proxy_ = false;
  config_ = worker_.config();
  begun_ = Clock::now();
  worker_.metrics().request_begun(listener().slot());
  head();
}

void Exchange::reset() {
  // It is used again and again, for one client after the other: nothing calls the last one's.
  assert(!attempt_ && !upstream_ && !waiter_.waiting() && !retrying_);
  state_ = State::head;
  normal_path_ = {};
  host_ = {};
  route_.reset();
  cluster_ = nullptr;
  actions_ = nullptr;
  attributes_.clear();
  mirror_.reset();
  mirror_decided_ = false;
  deadline_passed_ = false;
  collected_ = false;
  tunnelling_ = false;
  websocket_key_.clear();
  end_compression();
  auth_lines_.clear();
  challenge_.clear();
  body_left_ = answer_left_ = kNoLimit;
  destination_.reset();
  tries_ = 0;
  protocol_changes_ = 0;
  interim_ = 0;
  status_ = 0;
  grpc_status_ = grpc::kNoStatus;
  id_size_ = 0;
  traced_ = joined_trace_ = sampled_ = recorded_ = false;
  span_ = parent_span_ = try_span_ = 0;
  decided_ = try_begun_ = {};
  said_scheme_ = {};
  head_read_ = grpc_ = request_done_ = fresh_only_ = send_broken_ = answer_begun_ = false;
  head_forwarded_ = answer_done_ = holds_less_ = false;
  picked_ = sent_ = first_byte_ = {};
  connected_in_ = {};
  unprocessed_ = 0;
  reason_.clear();
  endpoint_ = {};
}

void Exchange::on_client_readable() {
  if (state_ == State::head) return head();
  if (state_ == State::collecting) return collect_more();
  if (!request_done_ && state_ == State::exchanging && !send_broken_) {
    pump_request();
    return;
  }
  // Nothing is wanted now: the next request, which waits, or the client's end.
  if (!client_->still_there()) return client_gone("client reset");
  // Who asks a model and hangs up wants no answer, and answers cost money. Others may close their
  // side and wait, which looks the same: the policy knows whether there are any.
  const bool cancels = mediator_ || (listener().policy().cancel_on_close && !tunnelling_);
  if (cancels && state_ != State::refusing && client_->half_closed()) client_gone("client closed");
}

void Exchange::on_client_writable() {
  if (state_ == State::exchanging || state_ == State::refusing) relay();
}

void Exchange::on_upstream_writable() {
  if (state_ == State::exchanging) pump_request();
}

void Exchange::on_upstream_readable() {
  if (client_->empty()) relay();  // else: the client reads too slowly, so the origin waits
}

// How long the next step may take. One timer serves both directions: what is waited for says which.
std::chrono::nanoseconds Exchange::patience() const {
  if (tunnelling_) return timeouts().idle;
  if (state_ == State::refusing || !client_->empty()) return timeouts().body_idle;
  if (mediator_) return mediator_->patience(head_forwarded_);
  if (head_forwarded_) return cluster_->config().timeouts.body_idle;
  if (!request_done_) return timeouts().body_idle;
  return cluster_->config().timeouts.first_byte;
}

// Comments and empty beginnings of a stream do not make anybody wait longer.
bool Exchange::waits_for_first() const {
  return mediator_ && state_ == State::exchanging && !head_forwarded_ && client_->empty() &&
         sent_ != Clock::time_point{} && mediator_->waits_for_first();
}

void Exchange::rearm() {
  const std::chrono::nanoseconds most = patience();
  if (most.count() == 0) return timer_.cancel();
  if (waits_for_first()) return worker_.wheel().arm_at(timer_, sent_ + most);
  worker_.wheel().arm(timer_, most);
}

// Who streams (events, a watch, a call of gRPC) may have nothing to say for long, and is not ejected
// for it. Who has named a length has more to say; models are judged by their own timeout.
bool Exchange::may_be_quiet() const {
  return tunnelling_ || (!mediator_ && upstream_->response().body() != BodyKind::length);
}

void Exchange::upstream_quiet() {
  if (!tunnelling_) count_failure(UpstreamFailure::stalled);
  if (!may_be_quiet()) return cut_short("upstream stalled in the body");
  drop_upstream();
  end_attempt(Outcome::neutral);
  cut_short(tunnelling_ ? "tunnel idle" : "upstream quiet (body_idle)");
}

void Exchange::on_timer() {
  if (state_ == State::backing_off) return pick();
  if (shares_) {  // Redis was too slow
    std::exchange(shares_, nullptr)->done = nullptr;
    return shared(nullptr);
  }
  if (state_ == State::head) {
    client_->close_after(true);
    return refuse(408, "request head timeout");
  }
  if (state_ == State::collecting) {
    client_->close_after(true);
    return refuse(408, "request body stalled");
  }
  if (tunnelling_) return upstream_quiet();
  if (!client_->empty()) return client_gone("client reads nothing");
  if (head_forwarded_) return upstream_quiet();
  if (!request_done_ && upstream_->empty()) {
    drop_upstream();
    end_attempt(Outcome::neutral);
    return refuse(408, "request body stalled");
  }
  count_failure(UpstreamFailure::timeout);
  if (try_again(policy::kRetry504, Outcome::timeout)) return;
  drop_upstream();
  end_attempt(Outcome::timeout);
  refuse(504, "upstream timeout");
}

void Exchange::on_deadline() {
  const bool answered = head_forwarded_ || !client_->empty();
  deadline_passed_ = true;
  drop_upstream();
  end_attempt(Outcome::neutral);
  if (answered) return cut_short("route timeout");
  refuse(504, "route timeout");
}

}  // namespace sluice::gateway::http
