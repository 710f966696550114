// Phase relay: the origin's answer goes to the client as it comes, one read at a time. The next
// read waits until the last one is with the client: that is the back-pressure.
#include <functional>
#include <utility>

#include "gateway/http/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::relay() {
  bool drained = false;
  while (true) {
    if (!client_->empty()) {
      if (answer_done_) client_->answer_ends();
      switch (client_->flush()) {
        case Flush::done:
          break;
        case Flush::blocked:
          client_->want_write();
          return rearm();
        case Flush::failed:
          return client_gone("client went away");
      }
    }
    if (answer_done_) return settle();
    if (state_ != State::exchanging) return;
    if (head_forwarded_ && !tunnelling_ && upstream_->response().switching()) return tunnel();
    const Staged staged = mediator_ ? stage_mediated() : stage_answer();
    if (staged == Staged::ended) return;
    if (staged == Staged::some) continue;
    switch (drained ? ReadResult::again
                    : upstream_->read(takes_splice() ? client_->pipe() : nullptr)) {
      case ReadResult::data:
        answer_begins();
        drained = upstream_->drained();
        continue;
      case ReadResult::again:
        upstream_->release_buffer();
        upstream_->want_read();
        if (!holds_less_) hold_less();
        return rearm();
      case ReadResult::full:
      case ReadResult::eof:
      case ReadResult::failed:
        return upstream_failed();
    }
  }
}

void Exchange::answer_begins() {
  if (std::exchange(answer_begun_, true)) return;
  first_byte_ = Clock::now();
}

// All that is here, so that what follows a head goes out with it, in one call.
Exchange::Staged Exchange::stage_answer() {
  bool progress = false;
  compressed_.clear();
  while (client_->has_room()) {
    const Piece piece = upstream_->next();
    switch (piece.part) {
      case Part::none:
        if (compressor_ && progress && !take_compressed(false)) return Staged::ended;
        return progress ? Staged::some : Staged::need_more;
      case Part::head:
        answer_begins();  // of HTTP/2 it is here before anything was read
        if (const Staged head = stage_head(); head == Staged::ended) return head;
        // An interim head goes out before the next one is read.
        if (!head_forwarded_ || answer_done_ || upstream_->response().switching()) {
          return Staged::some;
        }
        break;
      case Part::data:
        if (piece.data.size() > answer_left_) {
          answer_grew_too_large();
          return Staged::ended;
        }
        if (answer_left_ != kNoLimit) answer_left_ -= piece.data.size();
        if (!compressor_) {
          client_->add(piece.data);
        } else if (!compressor_->write(piece.data, compressed_)) {
          cut_short("compression failed");
          return Staged::ended;
        }
        break;
      case Part::end:
        if (compressor_ && !take_compressed(true)) return Staged::ended;
        client_->finish(upstream_->trailers());
        if (grpc_ && grpc_status_ == grpc::kNoStatus)
          grpc_status_ = grpc::status_of(upstream_->trailers()).value_or(grpc::kNoStatus);
        answer_done_ = true;
        return Staged::some;
      case Part::failed:
        answer_broken(upstream_->failure(), upstream_->parse_error() == ParseError::none
                                                ? UpstreamFailure::cut_short
                                                : UpstreamFailure::malformed);
        return Staged::ended;
    }
    progress = true;
  }
  return Staged::some;
}

Exchange::Staged Exchange::stage_head() {
  if (upstream_->response().interim()) return stage_interim();
  if (retry_for_status()) return Staged::ended;
  if (actions_ != nullptr && answer_too_large(upstream_->response())) return Staged::ended;
  if (upstream_->response().switching() && !accepted_handshake(upstream_->response())) {
    answer_broken("upstream's sec-websocket-accept is wrong", UpstreamFailure::malformed);
    return Staged::ended;
  }
  if (says_switched(upstream_->response().status())) {
    did_not_switch();
    return Staged::ended;
  }
  if (!begin_answer()) {
    answer_broken(http1::reason(ParseError::forwarded_head_too_large), UpstreamFailure::malformed);
    return Staged::ended;
  }
  return Staged::some;
}

Exchange::Staged Exchange::stage_interim() {
  if (++interim_ > kMaxInterim) {
    answer_broken("too many interim answers", UpstreamFailure::malformed);
    return Staged::ended;
  }
  if (!client_->interim(upstream_->response())) {
    answer_broken(http1::reason(ParseError::forwarded_head_too_large), UpstreamFailure::malformed);
    return Staged::ended;
  }
  return Staged::some;
}

bool Exchange::begin_answer() {
  ResponseHead& response = upstream_->response();
  AnswerEdits edits;
  if (actions_ != nullptr) edits = edit_answer(response);
  if (response.switching()) {
    if (actions_ == nullptr) answer_lines_.clear();
    edit_handshake_answer(response);
    edits.lines = answer_lines_;
  }
  stick_to_endpoint(edits);
  return_request_id(response, edits);
  const bool coded = upstream_->gives_coded() && answer_left_ == kNoLimit && !edits.recoded;
  const auto form = client_->begin(response, edits, coded);
  if (!form) return false;
  head_forwarded_ = true;
  try_timer_.cancel();
  end_retries();  // what follows is not tried again, and may go on for hours
  status_ = response.status();
  if (grpc_) grpc_status_ = grpc::status_of(response.fields()).value_or(grpc::kNoStatus);
  upstream_->take_body(*form);
  answer_done_ = response.body() == BodyKind::none && !response.switching();
  return true;
}

// The client never sees a byte of what cannot be understood.
void Exchange::answer_broken(std::string_view reason, UpstreamFailure failure) {
  count_failure(failure);
  if (head_forwarded_ && !take_answer_back()) return cut_short(reason);
  drop_upstream();
  end_attempt(Outcome::reset);
  refuse(502, reason);
}

// Its length was not known beforehand.
void Exchange::answer_grew_too_large() {
  constexpr std::string_view kReason = "answer larger than max_response_body";
  if (!take_answer_back()) return cut_short(kReason);
  answer_left_ = kNoLimit;
  drop_upstream();
  end_attempt(Outcome::neutral);
  refuse(502, kReason);
}

// A page like any other, and no fault of its endpoint.
void Exchange::did_not_switch() {
  const int status = upstream_->response().status();
  drop_upstream();
  end_attempt(Outcome::success, status);
  refuse(502, "upstream did not switch to WebSocket");
}

// An answer that comes over a while is waited for with the request's head alone: there are many of
// them at a time, streams, and each would hold a buffer for its request.
void Exchange::hold_less() {
  if (!head_forwarded_ || !request_done_ || tunnelling_ || !upstream_->empty()) return;
  holds_less_ = true;
  const std::string_view before = request_.bytes();
  client_->hold_head_alone(request_);
  const auto move = [&](std::string_view& part) {
    const std::less<const char*> is_before;
    const char* const at = part.data();
    if (at == nullptr || is_before(at, before.data()) ||
        is_before(before.data() + before.size(), at))
      return;
    part = {request_.bytes().data() + (at - before.data()), part.size()};
  };
  move(normal_path_);
  move(host_);
  if (mediator_) mediator_->hold_less();
}

// Before a byte of it is with the client it can still be told what went wrong.
bool Exchange::take_answer_back() {
  if (!client_->take_back()) return false;
  end_compression();
  head_forwarded_ = false;
  status_ = 0;
  grpc_status_ = grpc::kNoStatus;
  return true;
}

bool Exchange::retry_for_status() {
  try_status_ = upstream_->response().status();
  switch (try_status_) {
    case 429:
      return try_again(policy::kRetry429, Outcome::success);
    case 500:
      return try_again(policy::kRetry500, Outcome::server_error);
    case 502:
      return try_again(policy::kRetry502, Outcome::gateway_error);
    case 503:
      return try_again(policy::kRetry503, Outcome::gateway_error);
    case 529:  // Anthropic's "overloaded"
      return try_again(policy::kRetry503, Outcome::gateway_error);
    case 504:
      return try_again(policy::kRetry504, Outcome::gateway_error);
    default:
      return grpc_ && retry_for_call();
  }
}

// The status of a call is in the head only if nothing else comes (Trailers-Only).
bool Exchange::retry_for_call() {
  const auto status = grpc::status_of(upstream_->response().fields());
  if (!status) return false;
  const std::uint32_t condition = grpc::retry_condition(*status);
  return condition != 0 && try_again(condition, outcome_of_status(grpc::http_status_for(*status)));
}

}  // namespace sluice::gateway::http
