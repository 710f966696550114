// Phase relay: the origin's answer goes to the client as it comes, one buffer at a time. The next
// read waits until the last one is with the client's kernel: that is the back-pressure.
#include <cstring>

#include "gateway/http1/exchange.h"
#include "gateway/tcp_session.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {

void Exchange::relay() {
  while (true) {
    if (!to_client_.empty()) {
      switch (connection_->send(to_client_, bytes_to_client_)) {
        case Flush::done:
          break;
        case Flush::blocked:
          connection_->want_write();
          return rearm();
        case Flush::failed:
          return client_gone("client went away");
      }
    }
    if (response_complete_) return settle();
    if (state_ != State::exchanging) return;
    if (head_forwarded_ && response_.switching()) return tunnel();
    const Staged staged = stage_response();
    if (staged == Staged::ended) return;
    if (staged == Staged::some) continue;
    switch (read_upstream()) {
      case ReadResult::data:
        continue;
      case ReadResult::again:
        if (received_begin_ == received_end_) worker_.buffers().give_back(std::move(received_));
        upstream_->want_read();
        return rearm();
      case ReadResult::full:
        return bad_response("upstream's trailers too large");
      case ReadResult::eof:
        if (!answer_begun_) return upstream_failed();
        upstream_ended();
        if (state_ != State::exchanging) return;
        continue;
      case ReadResult::failed:
        if (!answer_begun_) return upstream_failed();
        if (head_forwarded_) return cut_short("upstream reset in the body");
        return bad_response("upstream reset in the head");
    }
  }
}

Exchange::Staged Exchange::stage_response() {
  if (!head_forwarded_) {
    const Staged head = stage_response_head();
    // What follows a final head goes out with it, in one call.
    if (head != Staged::some || !head_forwarded_ || response_.switching()) return head;
    stage_response_body();
    return state_ == State::exchanging ? Staged::some : Staged::ended;
  }
  return stage_response_body();
}

Exchange::Staged Exchange::stage_response_head() {
  if (received_begin_ == received_end_) return Staged::need_more;
  const std::string_view in(received_->bytes + received_begin_, received_end_ - received_begin_);
  const ResponseContext context{request_.method(), !request_.upgrade().empty()};
  switch (response_parser_.parse(in, context, response_)) {
    case Progress::need_more:
      return Staged::need_more;
    case Progress::failed:
      bad_response(http1::reason(response_parser_.error()));
      return Staged::ended;
    case Progress::complete:
      break;
  }
  received_begin_ += response_.size();
  if (response_.interim()) return stage_interim();
  if (retry_for_status()) return Staged::ended;
  if (!build_response_head()) {
    bad_response(http1::reason(ParseError::forwarded_head_too_large));
    return Staged::ended;
  }
  return Staged::some;
}

Exchange::Staged Exchange::stage_interim() {
  if (++interim_ > kMaxInterim) {
    bad_response("too many interim answers");
    return Staged::ended;
  }
  response_parser_.reset();
  if (request_.minor_version() == 0) return Staged::some;  // RFC 9110 section 15.2
  OutgoingHead head(response_memory_);
  if (!forward_response(response_, {}, head)) {
    bad_response(http1::reason(ParseError::forwarded_head_too_large));
    return Staged::ended;
  }
  to_client_.add(head.slices());
  return Staged::some;
}

bool Exchange::build_response_head() {
  ResponseForwarding options;
  options.client_minor_version = request_.minor_version();
  // An answer before the whole request: the rest of that is not waited for.
  options.client_keep_alive = !close_after_ && may_keep_client() && request_complete();
  OutgoingHead head(response_memory_);
  const auto forwarded = forward_response(response_, options, head);
  if (!forwarded) return false;
  forwarded_ = *forwarded;
  close_after_ = close_after_ || forwarded_.close;
  linger_after_ = linger_after_ || !request_complete();
  head_forwarded_ = true;
  status_ = response_.status();
  to_client_.add(head.slices());
  const bool has_body = forwarded_.body != BodyRelay::none;
  response_body_.begin(has_body ? response_.body() : BodyKind::none, response_.content_length(),
                       forwarded_.body);
  response_complete_ = response_body_.done() && !response_.switching();
  return true;
}

Exchange::Staged Exchange::stage_response_body() {
  bool progress = false;
  while (!response_body_.done() && to_client_.room() > kSliceReserve) {
    if (received_begin_ == received_end_) break;
    const std::string_view in(received_->bytes + received_begin_, received_end_ - received_begin_);
    const BodyReader::Step step = response_body_.step(in);
    received_begin_ += step.consumed;
    if (forwarded_.body == BodyRelay::enchunk) {
      stage_chunk(step.forward);
    } else {
      to_client_.add(step.forward);
    }
    if (step.failed) {
      cut_short(http1::reason(response_body_.error()));
      return Staged::ended;
    }
    if (step.consumed == 0) break;
    progress = true;
  }
  if (response_body_.done()) response_complete_ = true;
  return progress || response_complete_ ? Staged::some : Staged::need_more;
}

// One chunk for each read: the whole of what is there is one piece.
void Exchange::stage_chunk(std::string_view data) {
  if (data.empty()) return;
  to_client_.add(chunk_prefix(data.size(), chunk_memory_));
  to_client_.add(data);
  to_client_.add(kChunkEnd);
}

ReadResult Exchange::read_upstream() {
  if (upstream_drained_) return ReadResult::again;
  if (!received_) received_ = worker_.buffers().take();
  if (received_begin_ == received_end_) {
    received_begin_ = received_end_ = 0;
  } else if (received_end_ == Buffer::kSize && received_begin_ > 0) {
    std::memmove(received_->bytes, received_->bytes + received_begin_,
                 received_end_ - received_begin_);
    received_end_ -= received_begin_;
    received_begin_ = 0;
  }
  const std::size_t room = Buffer::kSize - received_end_;
  if (room == 0) return ReadResult::full;
  const Received received = upstream_->transport().read({received_->bytes + received_end_, room});
  if (received.result != ReadResult::data) return received.result;
  if (!answer_begun_) {
    answer_begun_ = true;
    first_byte_ = Clock::now();
  }
  received_end_ += received.bytes;
  bytes_from_upstream_ += received.bytes;
  // Less than there was room for: the wait, which looks before it sleeps, finds what came since.
  upstream_drained_ = received.drained;
  return ReadResult::data;
}

void Exchange::upstream_ended() {
  if (!head_forwarded_) return bad_response("upstream closed within the head");
  if (!response_body_.end_of_input()) return cut_short("upstream closed within the body");
  if (forwarded_.body == BodyRelay::enchunk) to_client_.add(kLastChunk);
  response_complete_ = true;
}

// The client never sees a byte of what cannot be understood.
void Exchange::bad_response(std::string_view reason) {
  if (head_forwarded_) return cut_short(reason);
  drop_upstream();
  end_attempt(Outcome::reset);
  if (!request_complete()) close_after_ = linger_after_ = true;
  refuse(502, reason);
}

bool Exchange::retry_for_status() {
  switch (response_.status()) {
    case 502:
      return try_again(policy::kRetry502, Outcome::server_error);
    case 503:
      return try_again(policy::kRetry503, Outcome::server_error);
    case 504:
      return try_again(policy::kRetry504, Outcome::server_error);
    default:
      return false;
  }
}

void Exchange::tunnel() {
  log();
  worker_.metrics().upstream_request_ended(endpoint_slot_, status_);
  const RefPtr<Connection> guard(connection_);
  Tunnel tunnel{.client = {},
                .config = config_,
                .attempt = std::move(attempt_),
                .upstream = upstream_,
                .upstream_index = upstream_index_,
                .from_client = std::string(connection_->input().substr(request_.size())),
                .from_upstream = {}};
  if (received_begin_ < received_end_) {
    tunnel.from_upstream.assign(received_->bytes + received_begin_,
                                received_end_ - received_begin_);
  }
  upstream_->set_user(nullptr);
  upstream_.reset();
  tunnel.client = connection_->take_client();
  TcpSession::start(worker_, std::move(tunnel));
  end(After::gone);
}

}  // namespace sluice::gateway::http1
