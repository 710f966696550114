#include "gateway/http2/connection.h"

#include <array>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/post.hpp>

#include "gateway/http2/callbacks.h"
#include "gateway/worker.h"

namespace sluice::gateway::http2 {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::seconds kLastWords{1};      // for a GOAWAY to be heard
constexpr std::chrono::milliseconds kLinger{500};  // between an early answer and its reset

}  // namespace

Connection::Connection(Worker& worker)
    : worker_(worker), codec_(worker), floods_(now_ms(worker.wheel())) {}
Connection::~Connection() = default;

void Connection::start(Worker& worker, Client client, std::string_view early) {
  auto connection = make_ref<Connection>(worker);
  connection->client_.emplace(std::move(client));
  connection->client_->transport->set_user(connection.get());
  connection->self_ = connection;
  worker.session_opened(*connection);
  connection->begin(early);
}

void Connection::begin(std::string_view early) {
  codec_.open(client_->transport, make_server_session(*this));
  announce();
  // Told while it shook hands, or spoke HTTP/1: what is on its way is still served.
  if (client_->ends_at || worker_.draining() || listener().gone()) no_more_requests();
  arm();
  if (!early.empty()) {
    proceed(codec_.receive(early));
  } else {
    on_readable();
  }
}

void Connection::announce() {
  const std::array<nghttp2_settings_entry, 4> settings{
      {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, kMaxStreams},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HeadText::kMaxSize},
       {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}}};
  nghttp2_submit_settings(codec_.session(), NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(codec_.session(), NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

std::string_view Connection::peer_text() {
  if (peer_text_.empty()) peer_text_ = client_->peer.address.to_string();
  return peer_text_;
}

// --- what comes

void Connection::on_readable() {
  const RefPtr<Connection> guard(this);
  proceed(codec_.receive());
}

void Connection::on_writable() {
  const RefPtr<Connection> guard(this);
  send();
  // What was blocked kept us from reading too.
  if (self_ && !codec_.blocked()) codec_.transport().want_read();
}

void Connection::proceed(const Codec::Receipt& receipt) {
  handle_events();
  if (!self_) return;
  if (abused_) cancel_all("HTTP/2 abuse");
  if (receipt.error != 0) return fail(receipt.error);
  if (receipt.state != Codec::State::open) {
    cancel_all("client closed the connection");
    return close();
  }
  send();
  // A client that takes nothing is not listened to: it could make us collect answers.
  if (self_ && !codec_.blocked()) codec_.transport().want_read();
}

// Streams may end, and others begin, while this runs.
void Connection::handle_events() {
  handling_ = true;
  while (self_ && !events_.empty()) {
    ClientStream& stream = events_.front();
    events_.pop_front();
    stream.handle_events();
  }
  handling_ = false;
}

// nghttp2 has given up: what it wanted to say about it still goes out, if it can.
void Connection::fail(int error) {
  if (error == NGHTTP2_ERR_FLOODED) {
    end_for_abuse(Abuse::ping);  // acknowledgements that nobody takes
  } else if (error == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) {
    end_for_abuse(Abuse::continuation);
  } else {
    nghttp2_session_terminate_session(codec_.session(), NGHTTP2_PROTOCOL_ERROR);
  }
  cancel_all("HTTP/2 connection error");
  if (!self_) return;
  codec_.fill();
  codec_.flush();
  close();
}

// --- what goes

bool Connection::submit_response(ClientStream& stream, bool has_body) {
  const nghttp2_data_provider body{.source = {.ptr = &stream}, .read_callback = &read_output};
  const auto fields = fields_.fields();
  return nghttp2_submit_response(codec_.session(), stream.id(), fields.data(), fields.size(),
                                 has_body ? &body : nullptr) == 0;
}

void Connection::submit_interim(std::int32_t id, const http::ResponseHead& head) {
  fields_.clear();
  response_fields(head, {}, fields_);
  const auto fields = fields_.fields();
  nghttp2_submit_headers(codec_.session(), NGHTTP2_FLAG_NONE, id, nullptr, fields.data(),
                         fields.size(), nullptr);
}

void Connection::submit_trailers(std::int32_t id, std::string_view lines) {
  fields_.clear();
  fields_.add_lines(lines);
  const auto fields = fields_.fields();
  nghttp2_submit_trailer(codec_.session(), id, fields.data(), fields.size());
}

// Frames go into the buffer now; the socket gets them when all that is ready has been seen to, so
// that streams share a system call.
void Connection::push(std::int32_t resume) {
  if (resume != 0) nghttp2_session_resume_data(codec_.session(), resume);
  codec_.fill();
  send_later();
}

void Connection::send_later() {
  if (handling_ || std::exchange(send_posted_, true)) return;
  asio::post(worker_.io(),
             asio::bind_allocator(HandlerAllocator<std::byte>(send_memory_), [self = RefPtr(this)] {
               self->send_posted_ = false;
               if (self->self_) self->send();
             }));
}

void Connection::send() {
  const RefPtr<Connection> guard(this);
  while (self_) {
    if (!codec_.fill()) return cancel_all("HTTP/2 connection error"), close();
    const Codec::State state = codec_.flush();
    if (state == Codec::State::broken) return cancel_all("client went away"), close();
    // A reset that nghttp2 sends for what it got ends the stream as it goes out.
    const bool news = !events_.empty();
    if (news) handle_events();
    if (self_ && abused_) cancel_all("HTTP/2 abuse");
    if (self_ && !waiting_.empty()) wake_waiting();
    if (!self_) return;
    if (state == Codec::State::ended) return cancel_all("connection is ended"), close();
    if (codec_.blocked() || !(news || codec_.has_output())) break;
  }
  arm();
}

// Each is asked once; those for which there is still no room wait on.
void Connection::wake_waiting() {
  Waiting ready;
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    ClientStream& stream = *next++;
    if (!stream.empty()) continue;
    stream.write_hook.unlink();
    ready.push_back(stream);
  }
  handling_ = true;
  while (self_ && !ready.empty())
    ready.front().wake();
  handling_ = false;
}

void Connection::give_window_back(const ClientStream& stream, std::size_t bytes, bool closed) {
  if (bytes == 0 || closed) return;
  nghttp2_session_consume_stream(codec_.session(), stream.id(), bytes);
  send_later();
}

// --- ends

void Connection::stream_ended(ClientStream& stream, http::Ending ending, bool input_ended,
                              bool closed) {
  const RefPtr<Connection> guard(this);
  nghttp2_session* session = codec_.session();
  if (!closed) {
    nghttp2_session_set_stream_user_data(session, stream.id(), nullptr);
    if (ending != http::Ending::complete) {
      nghttp2_submit_rst_stream(
          session, NGHTTP2_FLAG_NONE, stream.id(),
          ending == http::Ending::gone ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
    } else if (!input_ended) {
      linger(stream.id());
    }
  }
  stream.open_hook.unlink();
  stream.event_hook.unlink();
  stream.write_hook.unlink();
  worker_.http2_clients().give_back(std::unique_ptr<ClientStream>(&stream));
  --open_streams_;
  send_later();
}

// After a whole answer the rest of the request is not wanted (RFC 9113 section 8.1). There are
// clients that throw the answer away when the reset comes with it, so it comes a little later.
void Connection::linger(std::int32_t id) {
  lingering_.push_back(id);
  if (!linger_timer_.armed()) worker_.wheel().arm(linger_timer_, kLinger);
}

void Connection::end_lingering() {
  const RefPtr<Connection> guard(this);
  for (const std::int32_t id : lingering_) {
    nghttp2_submit_rst_stream(codec_.session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
  }
  lingering_.clear();
  send();
}

// What is on its way to us is still served: the last stream is named when the client has answered a
// PING behind the notice, and so has read that (RFC 9113 section 6.8). A client may take a stream
// behind the last for a failure, and not ask again.
void Connection::no_more_requests() {
  if (std::exchange(ending_, true)) return;
  nghttp2_submit_shutdown_notice(codec_.session());
  if (!head_timer_) timer_.cancel();  // it was for longer
  send_later();
}

// Not before: nghttp2 sends a PING ahead of a GOAWAY that waits.
void Connection::goaway_sent() {
  if (!ending_ || last_named_ || abused_) return;
  nghttp2_submit_ping(codec_.session(), NGHTTP2_FLAG_NONE, nullptr);
}

void Connection::name_last_stream() {
  if (abused_ || std::exchange(last_named_, true)) return;
  nghttp2_submit_goaway(codec_.session(), NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(codec_.session()), NGHTTP2_NO_ERROR,
                        nullptr, 0);
}

void Connection::drain() {
  const RefPtr<Connection> guard(this);
  no_more_requests();
  if (open_streams_ == 0) send();
}

void Connection::abort() {
  if (!self_) return;
  const RefPtr<Connection> guard(this);
  cancel_all("cancelled");
  close();
}

void Connection::cancel_all(std::string_view reason) {
  while (!open_.empty()) {
    open_.front().cancel(reason);
  }
}

void Connection::close() {
  if (!self_) return;
  const RefPtr<Connection> guard = std::move(self_);
  timer_.cancel();
  linger_timer_.cancel();
  worker_.session_closed(*this);
  client_->transport->set_user(nullptr);
  codec_.close();
  client_->ticket.release();
}

// Nothing under way, or a head that does not end: for a time only.
void Connection::arm() {
  const policy::ListenerTimeouts& timeouts = listener().policy().timeouts;
  if (in_head_) {
    if (!std::exchange(head_timer_, true)) worker_.wheel().arm(timer_, timeouts.head);
    return;
  }
  if (std::exchange(head_timer_, false)) timer_.cancel();
  if (open_streams_ > 0) {
    timer_.cancel();
  } else if (!timer_.armed()) {
    worker_.wheel().arm(timer_, ending_ ? kLastWords : timeouts.idle);
  }
}

void Connection::on_timer() {
  const RefPtr<Connection> guard(this);
  if (!ending_ && !head_timer_) {
    no_more_requests();
    return send();
  }
  cancel_all("request head timeout");
  name_last_stream();
  codec_.fill();
  codec_.flush();
  close();
}

// --- floods

bool Connection::admit(Abuse kind) {
  if (abused_ || floods_.admit(kind, now_ms(worker_.wheel()))) return true;
  end_for_abuse(kind);
  return false;
}

void Connection::end_for_abuse(Abuse kind) {
  if (std::exchange(abused_, true)) return;
  ending_ = true;
  worker_.http2_abuse(listener(), kind, *client_);
  nghttp2_session_terminate_session(codec_.session(), NGHTTP2_ENHANCE_YOUR_CALM);
}

}  // namespace sluice::gateway::http2
