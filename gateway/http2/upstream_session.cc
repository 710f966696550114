#include "gateway/http2/upstream_session.h"

#include <algorithm>
#include <array>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/post.hpp>

#include "gateway/upstream/pool.h"
#include "gateway/worker.h"

namespace sluice::gateway::http2 {

namespace asio = boost::asio;

UpstreamSession::UpstreamSession(Worker& worker, std::chrono::nanoseconds idle)
    : worker_(worker), idle_(idle), codec_(worker) {}
UpstreamSession::~UpstreamSession() {
  close();
}

std::expected<void, ConnectFailure> UpstreamSession::connect(const Attempt& attempt,
                                                             const policy::IpAddress& client) {
  only_http2_ = attempt.cluster().config().protocol == policy::UpstreamProtocol::http2;
  tls_ = attempt.cluster().tls();
  alive_within_ = attempt.cluster().config().timeouts.connect;
  auto connection = worker_.upstreams().connect(attempt, client, *this);
  if (!connection) {
    ended_ = true;
    return std::unexpected(connection.error());
  }
  connection_ = std::move(*connection);
  if (connection_->state() == UpstreamConnection::State::in_use) {
    established();
    send_later();  // a stream that waits for the peer's SETTINGS sends nothing, and some peers wait
  }
  return {};
}

void UpstreamSession::established() {
  connection_->set_user(this);
  codec_.open(TransportPtr(&connection_->transport()), make_client_session(*this));
  const std::array<nghttp2_settings_entry, 3> settings{
      {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HeadText::kMaxSize}}};
  nghttp2_submit_settings(codec_.session(), NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(codec_.session(), NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  connection_->want_read();
}

void UpstreamSession::on_connected(UpstreamConnection& connection) {
  const RefPtr<UpstreamSession> guard(this);
  if (connection.tls() && connection.inside() != Inside::http2) return not_http2(connection);
  established();
  // Others may begin while these are told: they find it open.
  StreamList<UpstreamStream, &UpstreamStream::open_hook> waiting;
  waiting.swap(open_);
  while (!waiting.empty()) {
    UpstreamStream& stream = waiting.front();
    waiting.pop_front();
    open_.push_back(stream);
    stream.connected_now();
  }
  send();
}

void UpstreamSession::on_connect_failed(UpstreamConnection& /*connection*/,
                                        const ConnectFailure& failure) {
  const RefPtr<UpstreamSession> guard(this);
  ended_ = true;
  while (!open_.empty()) {
    UpstreamStream& stream = open_.front();
    open_.pop_front();
    stream.connect_failed(failure);
  }
}

// The connection is as good as any for HTTP/1.1, if that is allowed.
void UpstreamSession::not_http2(UpstreamConnection& connection) {
  if (only_http2_) {
    connection.close();
    return on_connect_failed(
        connection, {.reason = ConnectError::tls, .step = "the endpoint does not offer h2 (ALPN)"});
  }
  connection.endpoint().set_speaks_http1_only(true);
  worker_.upstreams().give_back(std::move(connection_));
  on_connect_failed(connection, {.reason = ConnectError::other_protocol});
}

bool UpstreamSession::has_room() const {
  if (!usable() || open_streams_ >= most_streams()) return false;
  return !is_open() || nghttp2_session_check_request_allowed(codec_.session()) != 0;
}

// Until this connection's own SETTINGS have come, what the endpoint said on others: streams beyond
// it would be refused, and again on the next new connection.
std::uint32_t UpstreamSession::most_streams() const {
  if (settings_came_) return std::min(kMaxStreams, announced_streams());
  if (!connection_) return kMaxStreams;
  return std::clamp(connection_->endpoint().max_streams(), 1u, kMaxStreams);
}

std::uint32_t UpstreamSession::announced_streams() const {
  return nghttp2_session_get_remote_settings(codec_.session(),
                                             NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

void UpstreamSession::add(UpstreamStream& stream) {
  open_.push_back(stream);
  ++open_streams_;
  ++streams_begun_;
  timer_.cancel();
  if (connection_) connection_->resume();
}

// --- what the peer takes

void UpstreamSession::settle_within(std::chrono::nanoseconds most) {
  if (settled_ || settle_timer_.armed()) return;
  settle_within_ = most;
  worker_.wheel().arm(settle_timer_, most);
}

// From within nghttp2's callbacks.
void UpstreamSession::settings_came() {
  settings_came_ = true;
  connection_->endpoint().set_max_streams(announced_streams());
  settle();
}

// From within nghttp2's callbacks, too.
void UpstreamSession::settle() {
  if (std::exchange(settled_, true)) return;
  settle_timer_.cancel();
  for (UpstreamStream& stream : open_)
    stream.settings_came();
}

void UpstreamSession::on_settle_timer() {
  const RefPtr<UpstreamSession> guard(this);
  if (ended_) return;
  if (!is_open()) return settle_within(settle_within_);  // connecting has a limit of its own
  settle();
  handle_events();
  send();
}

bool UpstreamSession::takes_extended_connect() const {
  return is_open() && nghttp2_session_get_remote_settings(
                          codec_.session(), NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

// --- what comes

void UpstreamSession::on_upstream_readable() {
  const RefPtr<UpstreamSession> guard(this);
  // While answers are waited for it is read until nothing is there: of a reset that came together
  // with the last bytes no event tells (Transport::want_read). And before the wait begins: what is
  // read under a wait is what the wait was for.
  constexpr int kRounds = 4;
  for (int i = 0; i < kRounds && is_open(); ++i) {
    const std::uint64_t before = codec_.bytes_in();
    const Codec::Receipt receipt = codec_.receive();
    if (codec_.bytes_in() != before) {
      heard_at_ = worker_.wheel().now();
      alive_timer_.cancel();
    }
    proceed(receipt);
    if (receipt.exhausted || open_streams_ == 0) break;
  }
  wait_for_more();
}

void UpstreamSession::wait_for_more() {
  if (!ended_ && is_open() && !codec_.blocked()) connection_->want_read();
}

void UpstreamSession::on_upstream_writable() {
  const RefPtr<UpstreamSession> guard(this);
  send();
  wait_for_more();
}

void UpstreamSession::proceed(const Codec::Receipt& receipt) {
  handle_events();
  if (ended_) return;
  if (receipt.error != 0) return lose(Loss::protocol);
  if (receipt.state != Codec::State::open) return lose(Loss::connection);
  send();
}

void UpstreamSession::handle_events() {
  handling_ = true;
  while (!events_.empty()) {
    UpstreamStream& stream = events_.front();
    events_.pop_front();
    stream.handle_events();
  }
  handling_ = false;
}

// --- what goes

std::int32_t UpstreamSession::submit_request(UpstreamStream& stream, bool has_body) {
  if (ended_) return -1;
  const nghttp2_data_provider body{.source = {.ptr = &stream}, .read_callback = &read_output};
  const auto fields = fields_.fields();
  return nghttp2_submit_request(codec_.session(), nullptr, fields.data(), fields.size(),
                                has_body ? &body : nullptr, &stream);
}

void UpstreamSession::submit_trailers(std::int32_t id, std::string_view lines) {
  fields_.clear();
  fields_.add_lines(lines);
  const auto fields = fields_.fields();
  nghttp2_submit_trailer(codec_.session(), id, fields.data(), fields.size());
}

void UpstreamSession::push(std::int32_t resume) {
  if (ended_) return;
  if (resume > 0) nghttp2_session_resume_data(codec_.session(), resume);
  codec_.fill();
  send_later();
}

void UpstreamSession::send_later() {
  if (handling_ || ended_ || std::exchange(send_posted_, true)) return;
  asio::post(worker_.io(),
             asio::bind_allocator(HandlerAllocator<std::byte>(send_memory_), [self = RefPtr(this)] {
               self->send_posted_ = false;
               self->send();
             }));
}

void UpstreamSession::tell_later() {
  asio::post(worker_.io(), [self = RefPtr(this)] {
    self->handle_events();
    self->send();
  });
}

void UpstreamSession::send() {
  const RefPtr<UpstreamSession> guard(this);
  while (!ended_ && is_open()) {
    if (!codec_.fill()) return lose(Loss::protocol);
    const Codec::State state = codec_.flush();
    // Ended with streams open: nghttp2 has given the connection up.
    if (state == Codec::State::ended) return lose(Loss::protocol);
    if (state == Codec::State::broken) return lose(Loss::connection);
    // A reset that nghttp2 sends for what it got ends the stream as it goes out.
    const bool news = !events_.empty();
    handle_events();
    wake_waiting();
    if (ended_ || codec_.blocked() || !(news || codec_.has_output())) break;
  }
  if (!ended_ && open_streams_ == 0) rest();
}

// Nothing is under way: it is kept for the next request, unless somebody has more use for its place.
void UpstreamSession::rest() {
  const EndpointPool& pool = connection_->pool();
  if (draining_ || pool.retired()) return close();
  if (is_open() && pool.cluster().others_wait()) return say_goodbye();
  if (timer_.armed()) return;
  worker_.wheel().arm(timer_, idle_);
  if (is_open()) connection_->rest();
}

void UpstreamSession::wake_waiting() {
  StreamList<UpstreamStream, &UpstreamStream::write_hook> ready;
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    UpstreamStream& stream = *next++;
    if (!stream.empty()) continue;
    stream.write_hook.unlink();
    ready.push_back(stream);
  }
  handling_ = true;
  while (!ready.empty()) {
    UpstreamStream& stream = ready.front();
    ready.pop_front();
    stream.wake();
  }
  handling_ = false;
}

void UpstreamSession::give_window_back(const UpstreamStream& stream, std::size_t bytes,
                                       bool closed) {
  if (bytes == 0 || closed || !is_open()) return;
  nghttp2_session_consume_stream(codec_.session(), stream.id(), bytes);
  send_later();
}

// --- ends

void UpstreamSession::stream_ended(UpstreamStream& stream, bool whole, bool closed) {
  --open_streams_;
  if (!is_open()) return;
  connection_->pool().place_freed();
  if (!closed) {
    nghttp2_session_set_stream_user_data(codec_.session(), stream.id(), nullptr);
    nghttp2_submit_rst_stream(codec_.session(), NGHTTP2_FLAG_NONE, stream.id(),
                              whole ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
    if (!whole) ask_whether_alive(stream);
  }
  send_later();
}

// A request was given up after a silence: the peer's host, or the way to it, may be gone, of which
// TCP tells after many minutes. HTTP/1.1 leaves the connection with the request; this one would get
// each next request, too.
void UpstreamSession::ask_whether_alive(const UpstreamStream& given_up) {
  const SteadyTime silent_since = std::max(heard_at_, given_up.sent_at());
  if (draining_ || alive_timer_.armed() || worker_.wheel().now() - silent_since < alive_within_) {
    return;
  }
  // Servers of gRPC end a connection at the third PING too many, and its quiet streams with it.
  constexpr std::uint32_t kMostAsked = 2;
  if (++asked_ > kMostAsked) {
    draining_ = true;
    return;
  }
  nghttp2_submit_ping(codec_.session(), NGHTTP2_FLAG_NONE, nullptr);
  worker_.wheel().arm(alive_timer_, alive_within_);
}

// What runs may go on: it has timeouts of its own.
void UpstreamSession::on_alive_timer() {
  const RefPtr<UpstreamSession> guard(this);
  draining_ = true;
  send();
}

// Broken, closed by the peer, or of no use any more.
void UpstreamSession::lose(Loss why) {
  const RefPtr<UpstreamSession> guard(this);
  if (std::exchange(ended_, true)) return;
  const std::string_view complaint = connection_->transport().complaint();
  for (UpstreamStream& stream : open_)
    stream.lost(why == Loss::protocol, complaint);
  handle_events();
  close();
}

void UpstreamSession::close() {
  ended_ = true;
  timer_.cancel();
  settle_timer_.cancel();
  alive_timer_.cancel();
  if (connection_) {
    connection_->set_user(nullptr);
    connection_->close();
  }
  if (codec_.is_open()) codec_.close();
}

void UpstreamSession::on_timer() {
  const RefPtr<UpstreamSession> guard(this);
  if (open_streams_ == 0) say_goodbye();
}

void UpstreamSession::say_goodbye() {
  if (is_open()) {
    nghttp2_session_terminate_session(codec_.session(), NGHTTP2_NO_ERROR);
    codec_.fill();
    codec_.flush();
  }
  close();
}

}  // namespace sluice::gateway::http2
