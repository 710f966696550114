#include "gateway/http2/upstream_stream.h"

#include <array>

#include "gateway/http2/upstream_session.h"
#include "gateway/worker.h"

namespace sluice::gateway::http2 {

using http::Part;
using http::Piece;

namespace {

// By RFC 9113 section 7.
constexpr std::array<std::string_view, 14> kResets{
    "upstream reset the stream: NO_ERROR",
    "upstream reset the stream: PROTOCOL_ERROR",
    "upstream reset the stream: INTERNAL_ERROR",
    "upstream reset the stream: FLOW_CONTROL_ERROR",
    "upstream reset the stream: SETTINGS_TIMEOUT",
    "upstream reset the stream: STREAM_CLOSED",
    "upstream reset the stream: FRAME_SIZE_ERROR",
    "upstream reset the stream: REFUSED_STREAM",
    "upstream reset the stream: CANCEL",
    "upstream reset the stream: COMPRESSION_ERROR",
    "upstream reset the stream: CONNECT_ERROR",
    "upstream reset the stream: ENHANCE_YOUR_CALM",
    "upstream reset the stream: INADEQUATE_SECURITY",
    "upstream reset the stream: HTTP_1_1_REQUIRED",
};

std::string_view reset_reason(std::uint32_t error) {
  return error < kResets.size() ? kResets[error] : "upstream reset the stream";
}

}  // namespace

UpstreamStream::UpstreamStream(Worker& worker) : worker_(worker) {}
UpstreamStream::~UpstreamStream() = default;

void UpstreamStream::open(RefPtr<UpstreamSession> session, bool reused, bool upgrade,
                          http::UpstreamEvents& events) {
  session_ = std::move(session);
  events_ = &events;
  reused_ = reused;
  id_ = 0;
  interim_.reset();
  text_.reset();
  trailers_.reset();
  incoming_ = &text_;
  parser_.reset();
  parse_error_ = http::ParseError::none;
  output_.reset();
  out_.clear();
  bytes_in_ = bytes_out_ = 0;
  interim_ready_ = head_ready_ = head_has_body_ = head_given_ = input_ended_ = false;
  anything_came_ = news_ = reset_ = lost_ = unprocessed_ = closed_ = waiting_ = false;
  malformed_ = peer_reset_ = not_sent_ = false;
  settled_now_ = takes_no_upgrade_ = false;
  waits_for_settings_ = upgrade && !session_->settled();
  error_ = 0;
  failure_ = {};
}

// --- from nghttp2's callbacks

void UpstreamStream::head_begins() {
  anything_came_ = true;
  if (head_ready_ || head_given_) {
    incoming_ = &trailers_;
    trailers_.reset_for_trailers();
  } else {
    incoming_ = &text_;
    text_.reset();
  }
}

void UpstreamStream::head_ended(bool end_stream) {
  bytes_in_ += incoming_->list_size();
  if (incoming_ == &trailers_) {
    trailers_.finish_trailers();
    return input_ended();
  }
  const int status = text_.status();
  if (status >= 100 && status < 200 && !end_stream) {
    text_.finish_response(false, to_head_);
    std::swap(interim_, text_);
    interim_ready_ = true;
  } else {
    text_.finish_response(!end_stream, to_head_);
    head_has_body_ = !end_stream;
    head_ready_ = true;
    input_ended_ = end_stream;
  }
  notify();
}

void UpstreamStream::received(std::string_view data) {
  bytes_in_ += data.size();
  body_.push(data, worker_.buffers());
  notify();
}

void UpstreamStream::input_ended() {
  input_ended_ = true;
  notify();
}

void UpstreamStream::reset_by_peer(std::uint32_t error) {
  peer_reset_ = true;
  error_ = error;
}

void UpstreamStream::closed(std::uint32_t error) {
  closed_ = true;
  if (error == NGHTTP2_NO_ERROR && input_ended_) return;
  reset_ = true;
  unprocessed_ = not_sent_ || error == NGHTTP2_REFUSED_STREAM;
  // Else it was nghttp2 that ended it, for what it got; what it forgets behind a GOAWAY is refused.
  malformed_ = !peer_reset_ && !unprocessed_;
  notify();
}

void UpstreamStream::settings_came() {
  if (!std::exchange(waits_for_settings_, false)) return;
  settled_now_ = true;
  if (!event_hook.is_linked()) session_->add_event(*this);
}

void UpstreamStream::lost(bool malformed, std::string_view why) {
  failure_ = why;
  closed_ = lost_ = true;
  malformed_ = malformed_ || malformed;
  notify();
}

void UpstreamStream::notify() {
  news_ = true;
  if (!event_hook.is_linked()) session_->add_event(*this);
}

ssize_t UpstreamStream::read_output(std::size_t most, std::uint32_t* flags) {
  return output_.read(most, flags,
                      [this](std::string_view lines) { session_->submit_trailers(id_, lines); });
}

void UpstreamStream::take_output(std::size_t bytes) {
  output_.take(out_, session_->codec(), bytes);
  bytes_out_ += bytes;
}

// --- events

void UpstreamStream::handle_events() {
  if (std::exchange(settled_now_, false)) return events_->on_upstream_connected();
  if (waits_for_settings_) return connect_failed({.reason = ConnectError::other});
  events_->on_upstream_readable();
}

void UpstreamStream::wake() {
  waiting_ = false;
  events_->on_upstream_writable();
}

// --- the request

bool UpstreamStream::connected() const {
  return session_->is_open() && !waits_for_settings_;
}

std::chrono::nanoseconds UpstreamStream::connect_time() const {
  return session_->connect_time();
}

std::optional<NetworkSample> UpstreamStream::sample_network() {
  return session_->sample_network();
}

std::optional<http::BodyForm> UpstreamStream::begin(const http::RequestHead& head,
                                                    const http1::RequestForwarding& options,
                                                    bool /*coded*/) {
  to_head_ = head.method() == http::Method::head;
  text_.set_upgrade(head.upgrade());
  interim_.set_upgrade(head.upgrade());  // they change places
  context_ = {head.method(), !head.upgrade().empty()};
  const bool has_body = head.body() != http::BodyKind::none || !head.upgrade().empty();
  if (!head.upgrade().empty() && !session_->takes_extended_connect()) {
    closed_ = reset_ = takes_no_upgrade_ = true;
    notify();
    session_->tell_later();
    return http::BodyForm::payload;
  }
  if (!has_body) output_.finish_with_head();
  FieldList& fields = session_->fields();
  fields.clear();
  request_fields(head, options, session_->scheme(), path_, fields);
  sent_at_ = worker_.wheel().now();
  id_ = session_->submit_request(*this, has_body);
  if (id_ < 0) {
    lost(false);
    session_->tell_later();
  }
  return http::BodyForm::payload;
}

Flush UpstreamStream::flush() {
  if (closed_) {
    out_.clear();
    return output_.done() ? Flush::done : Flush::failed;
  }
  session_->push(output_.take_deferred() ? id_ : 0);
  return output_.done() ? Flush::done : Flush::blocked;
}

void UpstreamStream::want_write() {
  if (std::exchange(waiting_, true)) return;
  session_->add_waiting(*this);
}

// --- the answer

Piece UpstreamStream::next() {
  if (!head_given_) return next_head();
  const std::string_view data = body_.next();
  if (!data.empty()) return {Part::data, data};
  if (body_.has_more()) return {Part::none};
  if (input_ended_) {
    if (trailers_.error() != HeadError::none) return fail("upstream's trailers are malformed");
    return {Part::end};
  }
  if (broken()) return fail_broken();
  return {Part::none};
}

Piece UpstreamStream::next_head() {
  const bool interim = std::exchange(interim_ready_, false);
  if (!interim && !head_ready_) {
    return broken() && anything_came_ ? fail_broken() : Piece{Part::none};
  }
  const HeadText& text = interim ? interim_ : text_;
  if (text.error() != HeadError::none) {
    return malformed(http::ParseError::malformed_http2, reason(text.error()));
  }
  parser_.reset();
  switch (parser_.parse(text.text(), context_, response_)) {
    case http1::Progress::complete:
      head_given_ = !interim;
      return {Part::head};
    case http1::Progress::failed:
      return malformed(parser_.error(), http1::reason(parser_.error()));
    case http1::Progress::need_more:
      break;
  }
  return fail("upstream's head is malformed");
}

Piece UpstreamStream::fail_broken() {
  if (takes_no_upgrade_) return fail("upstream's HTTP/2 takes no WebSocket (RFC 8441)");
  if (unprocessed_ && !peer_reset_) return fail("upstream went away before it took the request");
  if (malformed_) {
    return malformed(http::ParseError::malformed_http2,
                     head_given_ ? "upstream's answer breaks HTTP/2: its length, or a frame"
                                 : "upstream's answer breaks HTTP/2");
  }
  if (!lost_) return fail(reset_reason(error_));
  return fail(head_given_ ? "upstream closed within the body" : "upstream closed within the head");
}

Piece UpstreamStream::malformed(http::ParseError error, std::string_view why) {
  parse_error_ = error;
  return fail(why);
}

Piece UpstreamStream::fail(std::string_view why) {
  failure_ = why;
  return {Part::failed};
}

void UpstreamStream::take_body(http::BodyForm /*form*/) {}

ReadResult UpstreamStream::read(BorrowedPipe* /*past*/) {
  session_->give_window_back(*this, body_.drop(worker_.buffers()), closed_);
  if (std::exchange(news_, false)) {
    if (!broken() || anything_came_) return ReadResult::data;
    if (reset_ || malformed_) fail_broken();  // for failure()
    return ReadResult::failed;
  }
  return body_.has_more() ? ReadResult::data : ReadResult::again;
}

UpstreamConnectionPtr UpstreamStream::take_connection(std::string& /*early*/) {
  return nullptr;
}

void UpstreamStream::release(bool whole) {
  std::unique_ptr<UpstreamStream> self(this);
  const RefPtr<UpstreamSession> session = std::move(session_);
  session->give_window_back(*this, body_.clear(worker_.buffers()), closed_);
  session->stream_ended(*this, whole && input_ended_, closed_ || id_ <= 0);
  open_hook.unlink();
  event_hook.unlink();
  write_hook.unlink();
  worker_.http2_upstreams().give_back(std::move(self));
}

}  // namespace sluice::gateway::http2
