// Phase relay: the origin's answer goes to the client as it comes, one read at a time. The next
// read waits until the last one is with the client: that is the back-pressure.
#include "gateway/http/exchange.h"
#include "gateway/tcp_session.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::relay() {
  while (true) {
    if (!client_->empty()) {
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
    if (head_forwarded_ && upstream_->response().switching()) return tunnel();
    const Staged staged = stage_answer();
    if (staged == Staged::ended) return;
    if (staged == Staged::some) continue;
    switch (upstream_->read(client_->pipe())) {
      case ReadResult::data:
        if (!answer_begun_) first_byte_ = Clock::now();
        answer_begun_ = true;
        continue;
      case ReadResult::again:
        upstream_->want_read();
        return rearm();
      case ReadResult::full:
      case ReadResult::eof:
      case ReadResult::failed:
        return upstream_failed();
    }
  }
}

// All that is here, so that what follows a head goes out with it, in one call.
Exchange::Staged Exchange::stage_answer() {
  bool progress = false;
  while (client_->has_room()) {
    const Piece piece = upstream_->next();
    switch (piece.part) {
      case Part::none:
        return progress ? Staged::some : Staged::need_more;
      case Part::head:
        if (const Staged head = stage_head(); head == Staged::ended) return head;
        // An interim head goes out before the next one is read.
        if (!head_forwarded_ || answer_done_ || upstream_->response().switching()) {
          return Staged::some;
        }
        break;
      case Part::data:
        client_->add(piece.data);
        break;
      case Part::end:
        client_->finish(upstream_->trailers());
        answer_done_ = true;
        return Staged::some;
      case Part::failed:
        answer_broken(upstream_->failure());
        return Staged::ended;
    }
    progress = true;
  }
  return Staged::some;
}

Exchange::Staged Exchange::stage_head() {
  if (upstream_->response().interim()) return stage_interim();
  if (retry_for_status()) return Staged::ended;
  if (!begin_answer()) {
    answer_broken(http1::reason(ParseError::forwarded_head_too_large));
    return Staged::ended;
  }
  return Staged::some;
}

Exchange::Staged Exchange::stage_interim() {
  if (++interim_ > kMaxInterim) {
    answer_broken("too many interim answers");
    return Staged::ended;
  }
  if (!client_->interim(upstream_->response())) {
    answer_broken(http1::reason(ParseError::forwarded_head_too_large));
    return Staged::ended;
  }
  return Staged::some;
}

bool Exchange::begin_answer() {
  const ResponseHead& response = upstream_->response();
  const auto form = client_->begin(response, upstream_->gives_coded());
  if (!form) return false;
  head_forwarded_ = true;
  status_ = response.status();
  upstream_->take_body(*form);
  answer_done_ = response.body() == BodyKind::none && !response.switching();
  return true;
}

// The client never sees a byte of what cannot be understood.
void Exchange::answer_broken(std::string_view reason) {
  if (head_forwarded_) return cut_short(reason);
  drop_upstream();
  end_attempt(Outcome::reset);
  refuse(502, reason);
}

bool Exchange::retry_for_status() {
  switch (upstream_->response().status()) {
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
  Tunnel tunnel{.client = {},
                .config = config_,
                .attempt = std::move(attempt_),
                .upstream = {},
                .upstream_index = upstream_index_,
                .from_client = {},
                .from_upstream = {}};
  tunnel.upstream = upstream_->take_connection(tunnel.from_upstream);
  upstream_.reset();
  tunnel.client = client_->take_client(tunnel.from_client);
  tunnel.client.ticket.hold(gate_.take_places());  // as long as the tunnel lasts
  gate_.release();
  TcpSession::start(worker_, std::move(tunnel));
  timer_.cancel();
  deadline_.cancel();
  state_ = State::ended;
  config_.reset();
  std::exchange(client_, nullptr)->taken();
}

}  // namespace sluice::gateway::http
