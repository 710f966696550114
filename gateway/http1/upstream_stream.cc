#include "gateway/http1/upstream_stream.h"

#include <cstring>

#include "gateway/worker.h"

namespace sluice::gateway::http1 {

using http::Part;
using http::Piece;

UpstreamStream::UpstreamStream(Worker& worker) : worker_(worker), pipe_(worker.relays().pipes()) {}

std::expected<http::UpstreamStreamPtr, ConnectFailure> UpstreamStream::open(
    Worker& worker, const Attempt& attempt, const policy::IpAddress& client, bool fresh,
    bool upgrade, http::UpstreamEvents& events) {
  auto stream = worker.http1_upstreams().take(worker);
  stream->reset();
  stream->events_ = &events;
  stream->alpn_ = upgrade ? tls::AlpnOffer::http1 : tls::AlpnOffer::any;
  if (!fresh) stream->connection_ = worker.upstreams().take_idle(attempt, client);
  if (!stream->connection_) {
    auto connection = worker.upstreams().connect(attempt, client, *stream);
    if (!connection) {
      worker.http1_upstreams().give_back(std::move(stream));
      return std::unexpected(connection.error());
    }
    stream->connection_ = std::move(*connection);
  }
  if (stream->connected()) stream->connection_->set_user(stream.get());
  return http::UpstreamStreamPtr(stream.release());
}

void UpstreamStream::reset() {
  parser_.reset();
  body_.begin(BodyKind::none, 0, BodyRelay::none);
  out_.clear();
  begin_ = end_ = 0;
  bytes_in_ = bytes_out_ = 0;
  have_head_ = send_broken_ = tunnelling_ = half_close_ = false;
  meter_.reset();
  ended_ = End::none;
  failure_ = {};
  parse_error_ = ParseError::none;
}

void UpstreamStream::release(bool whole) {
  std::unique_ptr<UpstreamStream> self(this);
  // Bytes behind the answer must never be another client's: then the connection is closed.
  const bool keep = whole && have_head_ && response_.keep_alive() && body_.done() && empty() &&
                    begin_ == end_ && !send_broken_ && ended_ == End::none &&
                    connection_->transport().silent();
  if (connection_) connection_->set_user(nullptr);
  if (keep) {
    worker_.upstreams().give_back(std::move(connection_));
  } else if (connection_) {
    connection_->close();
  }
  connection_ = nullptr;
  pipe_.drop();
  worker_.head_rooms().give_back(std::move(head_room_));
  worker_.buffers().give_back(std::move(buffer_));
  worker_.http1_upstreams().give_back(std::move(self));
}

// --- events of the connection

// By ALPN it is HTTP/2: the next try finds that remembered.
void UpstreamStream::on_connected(UpstreamConnection& connection) {
  if (connection.inside() == Inside::http2) {
    connection.endpoint().set_speaks_http1_only(false);
    connection.close();
    return events_->on_upstream_connect_failed({.reason = ConnectError::other_protocol});
  }
  connection_->set_user(this);
  events_->on_upstream_connected();
}

void UpstreamStream::on_connect_failed(UpstreamConnection& /*connection*/,
                                       const ConnectFailure& failure) {
  events_->on_upstream_connect_failed(failure);
}

void UpstreamStream::on_upstream_readable() {
  events_->on_upstream_readable();
}

void UpstreamStream::on_upstream_writable() {
  events_->on_upstream_writable();
}

// --- the request

std::optional<http::BodyForm> UpstreamStream::begin(const RequestHead& head,
                                                    const RequestForwarding& options, bool coded) {
  context_ = {head.method(), !head.upgrade().empty()};
  if (!head_room_) head_room_ = worker_.head_rooms().take();
  OutgoingHead outgoing(head_room_->bytes);
  if (!forward_request(head, options, outgoing)) return std::nullopt;
  out_.clear();
  out_.add(outgoing.slices());
  const bool chunks = head.body() == BodyKind::chunked;
  writer_.begin(chunks && !coded);
  return chunks && coded ? http::BodyForm::coded : http::BodyForm::payload;
}

Flush UpstreamStream::flush() {
  Transport& transport = connection_->transport();
  Flush result = transport.write(out_, bytes_out_);
  if (result == Flush::done) {
    worker_.head_rooms().give_back(std::move(head_room_));
    result = pipe_.drain(transport, bytes_out_);
  }
  if (result == Flush::done && std::exchange(half_close_, false)) transport.shutdown_write();
  if (result == Flush::failed) {
    send_broken_ = true;
    out_.clear();
    pipe_.drop();
  }
  return result;
}

// --- the answer

Piece UpstreamStream::next() {
  if (!have_head_) return next_head();
  if (body_.done()) return {Part::end};
  if (begin_ == end_) return next_at_end();
  const BodyReader::Step step = body_.step(received());
  begin_ += step.consumed;
  if (step.failed) return malformed(body_.error());
  if (step.consumed == 0) return next_at_end();
  return {Part::data, step.forward};
}

Piece UpstreamStream::next_head() {
  if (begin_ == end_) return next_at_end();
  switch (parser_.parse(received(), context_, response_)) {
    case Progress::need_more:
      return next_at_end();
    case Progress::failed:
      return malformed(parser_.error());
    case Progress::complete:
      break;
  }
  begin_ += response_.size();
  if (response_.interim()) {
    parser_.reset();
  } else {
    have_head_ = true;
  }
  return {Part::head};
}

// Nothing more of the message is here: what then depends on whether more can come.
Piece UpstreamStream::next_at_end() {
  switch (ended_) {
    case End::none:
      return {Part::none};
    case End::full:
      return fail("upstream's trailers too large");
    case End::broken:
      return fail(have_head_ ? "upstream reset in the body" : "upstream reset in the head");
    case End::closed:
      break;
  }
  if (!have_head_) return fail("upstream closed within the head");
  if (!body_.end_of_input()) return fail("upstream closed within the body");
  return {Part::end};
}

Piece UpstreamStream::malformed(ParseError error) {
  parse_error_ = error;
  return fail(reason(error));
}

Piece UpstreamStream::fail(std::string_view why) {
  failure_ = why;
  return {Part::failed};
}

void UpstreamStream::take_body(http::BodyForm form) {
  const bool coded = form == http::BodyForm::coded;
  body_.begin(response_.body(), response_.content_length(),
              coded ? BodyRelay::verbatim : BodyRelay::dechunk);
}

void UpstreamStream::open_tunnel() {
  tunnelling_ = true;
  body_.begin(BodyKind::until_close, 0, BodyRelay::verbatim);
  writer_.begin(false);
}

void UpstreamStream::release_buffer() {
  if (begin_ == end_) worker_.buffers().give_back(std::move(buffer_));
}

ReadResult UpstreamStream::read(BorrowedPipe* past) {
  Transport& transport = connection_->transport();
  Received got{ReadResult::full};
  const bool bulk = have_head_ && begin_ == end_ && meter_.bulk() &&
                    body_.left() >= BulkMeter::kLarge && transport.splices();
  if (past != nullptr && bulk) {
    worker_.buffers().give_back(std::move(buffer_));
    got = past->fill(transport, body_.left());
    body_.pass(got.bytes);
    meter_.spliced(got.bytes);
  }
  if (got.result == ReadResult::full) {
    make_room();
    got = transport.read({buffer_->bytes + end_, Buffer::kSize - end_});
    end_ += got.bytes;
    meter_.copied(got.bytes);
  }
  bytes_in_ += got.bytes;
  switch (got.result) {
    case ReadResult::data:
      return ReadResult::data;
    case ReadResult::again:
      if (begin_ == end_) worker_.buffers().give_back(std::move(buffer_));
      return ReadResult::again;
    case ReadResult::full:
      return ended(End::full, ReadResult::data);
    case ReadResult::eof:
      return ended(End::closed, ReadResult::eof);
    case ReadResult::failed:
      failure_ = transport.complaint();
      break;
  }
  return ended(End::broken, ReadResult::failed);
}

// Once something of the answer has come, next() tells of the end.
ReadResult UpstreamStream::ended(End how, ReadResult result) {
  ended_ = how;
  return bytes_in_ == 0 ? result : ReadResult::data;
}

void UpstreamStream::make_room() {
  if (!buffer_) buffer_ = worker_.buffers().take();
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (end_ == Buffer::kSize && begin_ > 0) {
    std::memmove(buffer_->bytes, buffer_->bytes + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
}

UpstreamConnectionPtr UpstreamStream::take_connection(std::string& early) {
  early.assign(received());
  connection_->set_user(nullptr);
  return std::move(connection_);
}

}  // namespace sluice::gateway::http1
