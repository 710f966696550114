// Phase send: the request's head, then its body as it comes.
#include "gateway/http/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::send() {
  state_ = State::exchanging;
  picked_ = Clock::now();
  sent_ = {};
  request_done_ = request_.body() == BodyKind::none;
  if (mediator_ ? !begin_mediated() : !begin_request()) {
    drop_upstream();
    end_attempt(Outcome::neutral);
    client_->close_after(true);
    return refuse(431, http1::reason(ParseError::forwarded_head_too_large));
  }
  pump_request();
}

// A second try begins with the first byte of the body again; none was dropped.
bool Exchange::begin_request() {
  http1::RequestForwarding options;
  std::array<ExtraField, kHopFields> hop;
  add_hop(options, hop);
  if (!request_.path_is_normal()) options.path = normal_path_;
  if (request_.authority().empty()) options.host = attempt_.endpoint().name();
  options.keep_expect = true;
  if (actions_ != nullptr) edit_request(options);
  if (!request_.upgrade().empty()) edit_handshake(options);
  // What is measured is payload.
  if (actions_ != nullptr && actions_->mirrors) begin_mirror(options);
  const bool coded = client_->gives_coded() && body_left_ == kNoLimit && !mirror_;
  const auto form = upstream_->begin(request_, options, coded);
  if (form) client_->take_body(*form);
  return form.has_value();
}

bool Exchange::pump_request() {
  while (true) {
    Staged staged = stage_request();
    if (staged == Staged::ended) return false;
    switch (upstream_->flush()) {
      case Flush::done:
        break;
      case Flush::blocked:
        upstream_->want_write();
        upstream_->want_read();  // an early answer
        rearm();
        return true;
      case Flush::failed:
        send_broken_ = true;
        relay();  // it may have answered before it closed
        return false;
    }
    if (request_done_) {
      request_sent();
      return true;
    }
    if (staged == Staged::need_more) staged = read_request();
    if (staged != Staged::some) return staged == Staged::need_more;
  }
}

Exchange::Staged Exchange::stage_request() {
  while (!request_done_ && upstream_->has_room()) {
    const Piece piece = client_->next();
    switch (piece.part) {
      case Part::data:
        if (piece.data.size() > body_left_) {
          request_too_large();
          return Staged::ended;
        }
        if (body_left_ != kNoLimit) body_left_ -= piece.data.size();
        if (mirror_) mirror_body(piece.data);
        upstream_->add(piece.data);
        break;
      case Part::end:
        upstream_->finish(client_->trailers());
        request_done_ = true;
        break;
      case Part::failed:
        request_broken();
        return Staged::ended;
      case Part::none:
      case Part::head:
        return Staged::need_more;
    }
  }
  return Staged::some;
}

void Exchange::request_broken() {
  const ParseError error = client_->failure();
  drop_upstream();
  end_attempt(Outcome::neutral);
  if (!head_forwarded_) return refuse_malformed(error);
  worker_.metrics().parse_error(listener().slot(), static_cast<std::size_t>(error));
  cut_short(http1::reason(error));
}

Exchange::Staged Exchange::read_request() {
  switch (client_->read(mirror_ ? nullptr : upstream_->pipe())) {
    case ReadResult::data:
      return Staged::some;
    case ReadResult::again:
      client_->want_read();
      upstream_->want_read();
      rearm();
      return Staged::need_more;
    case ReadResult::eof:
      if (!tunnelling_) break;
      client_ended_tunnel();
      return Staged::some;
    case ReadResult::full:  // an incomplete trailer line of this size is refused by its decoder
    case ReadResult::failed:
      break;
  }
  client_gone("client closed within the body");
  return Staged::ended;
}

void Exchange::request_sent() {
  if (mirror_) send_mirror();
  upstream_->want_read();
  client_->watch();  // so that a client that resets is noticed while the origin thinks
  sent_ = Clock::now();
  rearm();
}

}  // namespace sluice::gateway::http
