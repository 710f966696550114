#include "gateway/http2/client_stream.h"

#include "gateway/http/grpc.h"
#include "gateway/http/own_answer.h"
#include "gateway/http2/connection.h"
#include "gateway/worker.h"

namespace sluice::gateway::http2 {

using http::ParseError;
using http::Part;
using http::ReadHead;

namespace {

// Without a body its head is its trailers (Trailers-Only), and all in there is the caller's to see.
bool is_call(const http::ResponseHead& head) {
  return http::grpc::is_content_type(head.fields().first(http1::KnownField::content_type));
}

}  // namespace

ClientStream::ClientStream(Worker& worker) : exchange_(worker) {}

void ClientStream::open(Connection& connection, std::int32_t id, std::uint32_t number) {
  connection_ = &connection;
  id_ = id;
  number_ = number;
  text_.reset();
  text_of_trailers_.reset();
  parser_.reset();
  method_ = http::Method::get;  // until a head says another
  out_.clear();
  bytes_in_ = bytes_out_ = 0;
  output_.reset();
  has_body_ = input_ended_ = head_ready_ = data_ready_ = reset_ = false;
  begun_ = closed_ = waiting_ = head_due_ = client_reset_ = broken_ = false;
}

// --- from nghttp2's callbacks

void ClientStream::field(std::string_view name, std::string_view value) {
  bytes_in_ += name.size() + value.size();
  if (head_ready_ || begun_) return text_of_trailers_.add(name, value);
  text_.add(name, value);
}

std::size_t ClientStream::field_bytes() const {
  return text_.list_size() + text_of_trailers_.list_size();
}

void ClientStream::head_ended(bool end_stream) {
  if (head_ready_ || begun_) {  // trailers
    text_of_trailers_.finish_trailers();
    return input_ended();
  }
  has_body_ = !end_stream;
  input_ended_ = end_stream;
  head_ready_ = true;
  notify();
}

void ClientStream::received(std::string_view data) {
  bytes_in_ += data.size();
  body_.push(data, connection_->worker().buffers());
  data_ready_ = true;
  notify();
}

void ClientStream::input_ended() {
  input_ended_ = true;
  data_ready_ = true;
  notify();
}

void ClientStream::closed(std::uint32_t error) {
  closed_ = true;
  if (error == NGHTTP2_NO_ERROR && output_.end_given()) return;
  reset_ = true;
  // REFUSED_STREAM: it is behind the last one that our GOAWAY names, which is nobody's fault.
  broken_ = !client_reset_ && error != NGHTTP2_NO_ERROR && error != NGHTTP2_REFUSED_STREAM;
  notify();
}

void ClientStream::notify() {
  if (!event_hook.is_linked()) connection_->add_event(*this);
}

ssize_t ClientStream::read_output(std::size_t most, std::uint32_t* flags) {
  return output_.read(most, flags,
                      [this](std::string_view lines) { connection_->submit_trailers(id_, lines); });
}

void ClientStream::take_output(std::size_t bytes) {
  output_.take(out_, connection_->codec(), bytes);
  bytes_out_ += bytes;
}

// --- events

void ClientStream::handle_events() {
  // Reset before anybody looked at it: not worth an upstream's time. What is malformed is told as
  // that of HTTP/1.1 is.
  if (reset_ && !begun_) return broken_ ? begin_exchange() : drop();
  if (head_ready_ && !begun_) {
    if (data_ready_) notify();
    return begin_exchange();
  }
  if (reset_) {
    return exchange_.client_gone(client_reset_ ? "client reset the stream"
                                               : "request breaks HTTP/2: its length, or a frame");
  }
  if (std::exchange(data_ready_, false)) exchange_.on_client_readable();
}

void ClientStream::begin_exchange() {
  head_ready_ = false;
  begun_ = true;
  exchange_.begin(*this);
}

void ClientStream::drop() {
  body_.clear(connection_->worker().buffers());
  connection_->stream_ended(*this, http::Ending::gone, true, true);
}

void ClientStream::wake() {
  if (!waiting_ || !empty()) return;
  waiting_ = false;
  write_hook.unlink();
  exchange_.on_client_writable();
}

// --- the request

const Client& ClientStream::client() const {
  return connection_->client();
}

std::string_view ClientStream::peer_text() {
  return connection_->peer_text();
}

ReadHead ClientStream::read_head(http::RequestHead& head) {
  using State = ReadHead::State;
  if (broken_) return {State::failed, ParseError::malformed_http2};
  switch (text_.finish_request(has_body_)) {
    case HeadError::none:
      break;
    case HeadError::too_large:
      return {State::failed, ParseError::head_too_large};
    case HeadError::bad_path:
      return {State::failed, ParseError::bad_target};
    case HeadError::bad_authority:
      return {State::failed, ParseError::bad_host};
    default:
      return {State::failed, ParseError::malformed_http2};
  }
  // Of an extended CONNECT (RFC 8441) only WebSocket has a meaning here.
  if (!text_.protocol().empty() && text_.protocol() != "websocket") {
    return {State::failed, ParseError::malformed_http2};
  }
  switch (parser_.parse(text_.text(), head)) {
    case http1::Progress::complete:
      break;
    case http1::Progress::failed:
      return {State::failed, parser_.error()};
    case http1::Progress::need_more:  // cannot be: the text ends with an empty line
      return {State::failed, ParseError::malformed_http2};
  }
  method_ = head.method();
  return {State::complete};
}

http::Piece ClientStream::next() {
  const std::string_view data = body_.next();
  if (!data.empty()) return {Part::data, data};
  if (!input_ended_ || body_.has_more()) return {Part::none};
  if (text_of_trailers_.error() != HeadError::none) return {Part::failed};
  return {Part::end};
}

ReadResult ClientStream::read(BorrowedPipe* /*past*/) {
  connection_->give_window_back(*this, body_.drop(connection_->worker().buffers()), closed_);
  return body_.has_more() ? ReadResult::data : ReadResult::again;
}

void ClientStream::take_body(http::BodyForm /*form*/) {
  body_.rewind();
}

// --- the answer

bool ClientStream::submit(bool has_body) {
  if (closed_) return true;  // the exchange hears of it by the event
  head_due_ = true;
  return connection_->submit_response(*this, has_body);
}

bool ClientStream::interim(const http::ResponseHead& head) {
  if (closed_) return true;
  connection_->submit_interim(id_, head);
  head_due_ = true;
  return true;
}

std::optional<http::BodyForm> ClientStream::begin(const http::ResponseHead& head,
                                                  const http::AnswerEdits& edits, bool /*coded*/) {
  FieldList& fields = connection_->fields();
  fields.clear();
  const bool has_body = head.body() != http::BodyKind::none || head.switching();
  http1::KnownFieldSet remove = edits.remove;
  if (!has_body && is_call(head)) remove.add(http1::KnownField::content_length);
  response_fields(head, {.lines = edits.lines, .remove = remove, .recoded = edits.recoded}, fields);
  if (!has_body) output_.finish_with_head();
  if (!submit(has_body)) return std::nullopt;
  return http::BodyForm::payload;
}

void ClientStream::add(std::string_view data) {
  output_.add(out_, data);
}

void ClientStream::finish(std::string_view trailers) {
  output_.finish(trailers);
}

// Done when nghttp2 has taken all of it: the frames are in the connection's buffer then.
Flush ClientStream::flush() {
  head_due_ = false;
  if (closed_) {
    out_.clear();
    return output_.done() ? Flush::done : Flush::failed;
  }
  connection_->push(output_.take_deferred() ? id_ : 0);
  return output_.done() ? Flush::done : Flush::blocked;
}

void ClientStream::want_write() {
  if (std::exchange(waiting_, true)) return;
  connection_->add_waiting(*this);
}

void ClientStream::answer(const http::OwnAnswer& answer) {
  if (broken_) return output_.finish_with_head();  // the reset was the answer
  FieldList& fields = connection_->fields();
  fields.clear();
  fields.add_status(answer.status);
  fields.add("date", http::date_now());
  for (const http::ExtraField& field : answer.fields)
    fields.add(field.name, field.value);
  fields.add_lines(answer.lines);
  const std::string length = std::to_string(answer.body.size());
  const bool may_have_body = http::has_length(answer.status);
  if (may_have_body && !answer.call) fields.add("content-length", length);
  const bool has_body = may_have_body && !answer.body.empty() && method_ != http::Method::head;
  if (has_body) {
    own_.assign(answer.body);
    add(own_);
    finish({});
  } else {
    output_.finish_with_head();
  }
  submit(has_body);
}

void ClientStream::close_after(bool linger) {
  if (!linger) connection_->no_more_requests();
}

Client ClientStream::take_client(std::string& /*early*/) {
  return {};
}

void ClientStream::ended(http::Ending ending) {
  connection_->give_window_back(*this, body_.clear(connection_->worker().buffers()), closed_);
  connection_->stream_ended(*this, ending, input_ended_, closed_);
}

}  // namespace sluice::gateway::http2
