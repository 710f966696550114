// Phase send: the request's head, then its body as it comes.
#include "gateway/http1/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {

void Exchange::send() {
  state_ = State::exchanging;
  picked_ = Clock::now();
  upstream_->set_user(this);
  response_parser_.reset();
  bytes_to_upstream_ = 0;
  // A second try begins with the first byte of the body again; none was dropped.
  body_at_ = request_.size();
  request_body_.begin(request_.body(), request_.content_length(), BodyRelay::verbatim);
  if (!build_request_head()) {
    drop_upstream();
    end_attempt(Outcome::neutral);
    close_after_ = linger_after_ = true;
    return refuse(431, http1::reason(ParseError::forwarded_head_too_large));
  }
  pump_request();
}

bool Exchange::build_request_head() {
  // A line of its own continues the list of what came before (RFC 9110 section 5.3).
  const std::array<ExtraField, 2> add{
      {{"X-Forwarded-For", connection_->peer_text()}, {"X-Forwarded-Proto", "http"}}};
  RequestForwarding options;
  if (!request_.path_is_normal()) options.path = normal_path_;
  if (request_.authority().empty()) options.host = attempt_.endpoint().name();
  options.add = add;
  options.remove = KnownFieldSet(KnownField::x_forwarded_proto);
  options.keep_expect = true;
  OutgoingHead head(request_memory_);
  if (!forward_request(request_, options, head)) return false;
  to_upstream_.clear();
  to_upstream_.add(head.slices());
  return true;
}

void Exchange::pump_request() {
  while (true) {
    const std::size_t before = body_at_;
    if (!stage_request_body()) return;
    switch (upstream_->transport().write(to_upstream_, bytes_to_upstream_)) {
      case Flush::done:
        break;
      case Flush::blocked:
        upstream_->want_write();
        upstream_->want_read();  // an early answer
        return rearm();
      case Flush::failed:
        send_broken_ = true;
        to_upstream_.clear();
        return relay();  // it may have answered before it closed
    }
    if (request_complete()) return request_sent();
    const bool more_here = body_at_ != before && body_at_ < connection_->input().size();
    if (!more_here && !read_request_body()) return;
  }
}

bool Exchange::stage_request_body() {
  while (!request_body_.done() && to_upstream_.room() > kSliceReserve) {
    const std::string_view in = connection_->input().substr(body_at_);
    const BodyReader::Step step = request_body_.step(in);
    to_upstream_.add(step.forward);
    body_at_ += step.consumed;
    if (step.failed) {
      const ParseError error = request_body_.error();
      worker_.metrics().parse_error(connection_->listener().slot(),
                                    static_cast<std::size_t>(error));
      drop_upstream();
      end_attempt(Outcome::neutral);
      if (head_forwarded_) {
        cut_short(http1::reason(error));
      } else {
        close_after_ = linger_after_ = true;
        refuse(status(error), http1::reason(error));
      }
      return false;
    }
    if (step.consumed == 0) break;
  }
  return true;
}

bool Exchange::read_request_body() {
  if (connection_->input_room() < kBodyRoom || body_dropped_) {
    // Sent is sent; the head stays for the log.
    connection_->drop_input(request_.size(), body_at_);
    body_at_ = request_.size();
    body_dropped_ = true;
  }
  switch (connection_->read()) {
    case ReadResult::data:
      return true;
    case ReadResult::again:
      connection_->want_read();
      upstream_->want_read();
      rearm();
      return false;
    case ReadResult::full:  // an incomplete trailer line of this size is refused by its decoder
    case ReadResult::eof:
    case ReadResult::failed:
      client_gone("client closed within the body");
      return false;
  }
  return false;
}

void Exchange::request_sent() {
  sent_ = Clock::now();
  upstream_->want_read();
  watch_client();
  rearm();
}

// So that a client that resets is noticed while the origin thinks.
void Exchange::watch_client() {
  if (!connection_->half_closed() && connection_->input_room() > 0) connection_->want_read();
}

}  // namespace sluice::gateway::http1
