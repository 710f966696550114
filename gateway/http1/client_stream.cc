#include "gateway/http1/client_stream.h"

#include <charconv>

#include "gateway/http/own_answer.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {

using http::ReadHead;

ClientStream::ClientStream(Worker& worker)
    : worker_(worker), pipe_(worker.relays().pipes()), exchange_(worker) {}

void ClientStream::begin(Connection& connection) {
  connection_ = &connection;
  head_ = nullptr;
  parser_.reset();
  body_.begin(BodyKind::none, 0, BodyRelay::none);
  writer_.begin(false);
  out_.clear();
  interim_.clear();
  meter_.reset();
  head_size_ = body_at_ = 0;
  bytes_in_ = bytes_out_ = 0;
  body_dropped_ = close_ = linger_ = ends_by_close_ = false;
  exchange_.begin(*this);
}

// --- the request

ReadHead ClientStream::read_head(RequestHead& head) {
  while (true) {
    switch (parser_.parse(connection_->input(), head)) {
      case Progress::complete:
        head_ = &head;
        head_size_ = body_at_ = bytes_in_ = head.size();
        body_.begin(head.body(), head.content_length(), BodyRelay::verbatim);
        if (!head.keep_alive()) close_ = true;
        return {ReadHead::State::complete};
      case Progress::failed:
        return {ReadHead::State::failed, parser_.error()};
      case Progress::need_more:
        break;
    }
    switch (connection_->read()) {
      case ReadResult::data:
        continue;
      case ReadResult::again:
        return {ReadHead::State::need_more};
      case ReadResult::full:  // cannot be: the parser's limit is below the buffer's size
      case ReadResult::eof:
      case ReadResult::failed:
        return {ReadHead::State::gone};
    }
  }
}

http::Piece ClientStream::next() {
  if (body_.done()) return {http::Part::end};
  const BodyReader::Step step = body_.step(connection_->input().substr(body_at_));
  body_at_ += step.consumed;
  bytes_in_ += step.consumed;
  if (step.failed) return {http::Part::failed};
  if (step.consumed == 0) return {http::Part::none};
  return {http::Part::data, step.forward};
}

ReadResult ClientStream::read(BorrowedPipe* past) {
  const bool bulk = meter_.bulk() && body_.left() >= BulkMeter::kLarge &&
                    body_at_ == connection_->input().size() && connection_->transport().splices();
  if (connection_->input_room() < kBodyRoom || body_dropped_ || (past != nullptr && bulk)) {
    // Sent is sent; the head stays for the log.
    connection_->drop_input(head_size_, body_at_);
    body_at_ = head_size_;
    body_dropped_ = true;
  }
  if (past != nullptr && bulk) {
    const Received got = past->fill(connection_->transport(), body_.left());
    body_.pass(got.bytes);
    bytes_in_ += got.bytes;
    meter_.spliced(got.bytes);
    if (got.result != ReadResult::full) return got.result;
  }
  const std::size_t before = connection_->input().size();
  const ReadResult result = connection_->read();
  meter_.copied(connection_->input().size() - before);
  return result;
}

void ClientStream::take_body(http::BodyForm form) {
  bytes_in_ = body_at_ = head_size_;
  const bool coded = form == http::BodyForm::coded;
  body_.begin(head_->body(), head_->content_length(),
              coded ? BodyRelay::verbatim : BodyRelay::dechunk);
}

// What comes from here on is the next request's, and goes to where this one's began.
void ClientStream::hold_head_alone(RequestHead& head) {
  if (!body_.done() || connection_->input().size() != body_at_) return;
  kept_.assign(connection_->input().substr(0, head_size_));
  head.rebase(kept_.data());
  connection_->forget_input();
  head_size_ = body_at_ = 0;
  body_dropped_ = true;
}

void ClientStream::open_tunnel() {
  close_ = true;
  body_.begin(BodyKind::until_close, 0, BodyRelay::verbatim);
  writer_.begin(false);
}

void ClientStream::watch() {
  if (!connection_->half_closed() && connection_->input_room() > 0) connection_->want_read();
}

Flush ClientStream::flush() {
  const Flush result = connection_->send(out_, bytes_out_);
  if (result != Flush::done) return result;
  worker_.head_rooms().give_back(std::move(head_room_));
  if (!interim_.empty()) std::string().swap(interim_);  // rare, and may be large
  return pipe_.drain(connection_->transport(), bytes_out_);
}

// ended() follows the flush at once, and closes.
void ClientStream::answer_ends() {
  if (close_ && pipe_.empty()) connection_->transport().last_words();
}

// A body that is here already is passed over; for one that is still coming the connection is not
// worth keeping.
bool ClientStream::skip_body() {
  while (!body_.done()) {
    const BodyReader::Step step = body_.step(connection_->input().substr(body_at_));
    body_at_ += step.consumed;
    bytes_in_ += step.consumed;
    if (step.failed || step.consumed == 0) return false;
  }
  return true;
}

// --- the answer

bool ClientStream::may_keep() const {
  return !connection_->ends();
}

OutgoingHead ClientStream::outgoing_head() {
  if (!head_room_) head_room_ = worker_.head_rooms().take();
  return OutgoingHead(head_room_->bytes);
}

bool ClientStream::interim(const ResponseHead& head) {
  if (head_->minor_version() == 0) return true;  // RFC 9110 section 15.2
  OutgoingHead outgoing = outgoing_head();
  if (!forward_response(head, {}, outgoing)) return false;
  // A copy: the try whose bytes these are may be given up before the client takes them.
  interim_.clear();
  for (const iovec& slice : outgoing.slices())
    interim_.append(static_cast<const char*>(slice.iov_base), slice.iov_len);
  out_.add(interim_);
  return true;
}

std::optional<http::BodyForm> ClientStream::begin(const ResponseHead& head,
                                                  const http::AnswerEdits& edits, bool coded) {
  ResponseForwarding options;
  options.client_minor_version = head_->minor_version();
  // An answer before the whole request: the rest of that is not waited for.
  options.client_keep_alive = !close_ && may_keep() && body_.done();
  options.lines = edits.lines;
  options.remove = edits.remove;
  options.recoded = edits.recoded;
  OutgoingHead outgoing = outgoing_head();
  const auto forwarded = forward_response(head, options, outgoing);
  if (!forwarded) return std::nullopt;
  close_ = close_ || forwarded->close;
  linger_ = linger_ || !body_.done();
  ends_by_close_ =
      forwarded->close &&
      (forwarded->body == BodyRelay::dechunk ||
       (forwarded->body == BodyRelay::verbatim && head.body() == BodyKind::until_close));
  out_.add(outgoing.slices());
  // Whoever asks has read all answers before.
  const bool brief =
      head.body() == BodyKind::none ||
      (head.body() == BodyKind::length && head.content_length() <= ExpressLane::kShort);
  if (!brief) connection_->transport().leave_express();
  const bool chunks = forwarded->body == BodyRelay::verbatim && head.body() == BodyKind::chunked;
  writer_.begin(forwarded->body == BodyRelay::enchunk || (chunks && !coded));
  return chunks && coded ? http::BodyForm::coded : http::BodyForm::payload;
}

// `close_` stays as the answer's head has said: to close is never wrong.
bool ClientStream::take_back() {
  if (bytes_out_ != 0 || !pipe_.empty()) return false;
  out_.clear();
  writer_.begin(false);
  ends_by_close_ = false;
  return true;
}

void ClientStream::answer(const http::OwnAnswer& answer) {
  if (!skip_body()) close_after(true);
  if (!may_keep()) close_ = true;
  const auto number = [this](std::size_t value) {
    std::array<char, 20> digits;
    own_.append(digits.begin(), std::to_chars(digits.begin(), digits.end(), value).ptr);
  };
  own_.assign("HTTP/1.1 ");
  number(static_cast<std::size_t>(answer.status));
  own_.append(" ").append(http::reason_phrase(answer.status));
  own_.append("\r\nDate: ").append(http::date_now()).append("\r\n");
  for (const ExtraField& field : answer.fields)
    own_.append(field.name).append(": ").append(field.value).append("\r\n");
  own_.append(answer.lines);
  if (http::has_length(answer.status)) {
    own_.append("Content-Length: ");
    number(answer.body.size());
    own_.append("\r\n");
  }
  own_.append(close_ ? "Connection: close\r\n\r\n" : "\r\n");
  const bool to_head = head_ != nullptr && head_->method() == Method::head;
  // Behind a status that has none it would be taken for the next answer.
  if (!to_head && http::has_length(answer.status)) own_.append(answer.body);
  // An interim answer may still be in the outbox; it stays before this one.
  out_.add(own_);
}

void ClientStream::close_after(bool linger) {
  close_ = true;
  linger_ = linger_ || linger;
}

// --- ends

Client ClientStream::take_client(std::string& early) {
  early.assign(connection_->input().substr(head_size_));
  return connection_->take_client();
}

After ClientStream::after(http::Ending ending) const {
  switch (ending) {
    case http::Ending::complete:
      if (!close_) return After::keep_alive;
      return linger_ ? After::linger : After::close;
    case http::Ending::cut_short:
      return ends_by_close_ ? After::reset : After::close;
    case http::Ending::gone:
      break;
  }
  return After::close;
}

void ClientStream::ended(http::Ending ending) {
  const RefPtr<Connection> guard(connection_);
  worker_.head_rooms().give_back(std::move(head_room_));
  pipe_.drop();
  guard->exchange_ended(after(ending), body_at_);
}

void ClientStream::taken() {
  const RefPtr<Connection> guard(connection_);
  worker_.head_rooms().give_back(std::move(head_room_));
  guard->exchange_ended(After::gone, body_at_);
}

}  // namespace sluice::gateway::http1
