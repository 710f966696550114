// A connection to an endpoint that speaks HTTP/2: many exchanges at a time, up to what the peer
// allows. One worker's.
#pragma once

#include <chrono>
#include <cstdint>

#include "gateway/http2/codec.h"
#include "gateway/http2/fields.h"
#include "gateway/http2/hooks.h"
#include "gateway/http2/upstream_stream.h"
#include "gateway/refcounted.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/connection.h"

namespace sluice::gateway::http2 {

class UpstreamSession;
SessionPtr make_client_session(UpstreamSession& session);

class UpstreamSession final : public RefCounted<UpstreamSession>,
                              private ConnectHandler,
                              private UpstreamUser {
 public:
  static constexpr std::uint32_t kMaxStreams = 100;  // at a time, whatever the peer allows

  UpstreamSession(Worker& worker, std::chrono::nanoseconds idle);
  ~UpstreamSession();

  // Takes the connection that UpstreamWorker::connect has given, which may still be connecting.
  std::expected<void, ConnectFailure> connect(const Attempt& attempt,
                                              const policy::IpAddress& client);
  void close();

  bool is_open() const { return codec_.is_open(); }
  bool usable() const { return !ended_ && !draining_; }
  // It was made with the TLS that the cluster wants now.
  bool suits(const Cluster& cluster) const { return tls_ == cluster.tls(); }
  bool has_room() const;
  bool used() const { return streams_begun_ > 0; }
  void add(UpstreamStream& stream);

  // --- for its streams ---
  // Whether the peer's SETTINGS have come, or were waited for in vain; only then is it known …
  bool settled() const { return settled_; }
  void settle_within(std::chrono::nanoseconds most);
  // … that an extended CONNECT may be sent (RFC 8441 section 3).
  bool takes_extended_connect() const;
  Codec& codec() { return codec_; }
  FieldList& fields() { return fields_; }
  std::string_view scheme() const { return connection_->transport().plain() ? "http" : "https"; }
  std::chrono::nanoseconds connect_time() const { return connection_->connect_time(); }
  std::optional<NetworkSample> sample_network() {
    return connection_ ? connection_->sample_network() : std::nullopt;
  }
  void add_event(UpstreamStream& stream) { events_.push_back(stream); }
  void add_waiting(UpstreamStream& stream) { waiting_.push_back(stream); }
  std::int32_t submit_request(UpstreamStream& stream, bool has_body);  // negative: no more
  void submit_trailers(std::int32_t id, std::string_view lines);       // may be from a callback
  void push(std::int32_t resume);
  void tell_later();  // events of a stream of which nothing was sent: no frame will tell of them
  void give_window_back(const UpstreamStream& stream, std::size_t bytes, bool closed);
  void stream_ended(UpstreamStream& stream, bool whole, bool closed);

 private:
  struct Callbacks;  // client_callbacks.cc
  friend SessionPtr make_client_session(UpstreamSession& session);
  static ssize_t read_output(nghttp2_session* session, std::int32_t id, std::uint8_t* to,
                             std::size_t most, std::uint32_t* flags, nghttp2_data_source* source,
                             void* user);

  void on_connected(UpstreamConnection& connection) override;
  void on_connect_failed(UpstreamConnection& connection, const ConnectFailure& failure) override;
  void on_upstream_readable() override;
  void on_upstream_writable() override;
  void on_place_wanted() override { say_goodbye(); }
  void on_timer();
  void say_goodbye();
  void rest();
  void on_settle_timer();
  void ask_whether_alive(const UpstreamStream& given_up);
  void on_alive_timer();
  std::uint32_t most_streams() const;
  std::uint32_t announced_streams() const;
  void settings_came();
  void settle();
  void established();
  void not_http2(UpstreamConnection& connection);
  void wait_for_more();
  void proceed(const Codec::Receipt& receipt);
  void handle_events();
  void wake_waiting();
  void send();
  void send_later();
  enum class Loss : std::uint8_t { connection, protocol };
  void lose(Loss why);

  Worker& worker_;
  const std::chrono::nanoseconds idle_;
  UpstreamConnectionPtr connection_;
  tls::ClientContextPtr tls_;
  bool only_http2_ = true;
  Codec codec_;
  FieldList fields_;
  StreamList<UpstreamStream, &UpstreamStream::open_hook> open_;
  StreamList<UpstreamStream, &UpstreamStream::event_hook> events_;
  StreamList<UpstreamStream, &UpstreamStream::write_hook> waiting_;
  std::uint32_t open_streams_ = 0;
  std::uint64_t streams_begun_ = 0;
  bool draining_ = false;  // no new streams: GOAWAY came, or nobody is there
  bool settings_came_ = false;
  bool settled_ = false;
  bool ended_ = false;
  bool send_posted_ = false;
  bool handling_ = false;
  WheelTimer timer_ = WheelTimer::calling<&UpstreamSession::on_timer>(this);
  std::chrono::nanoseconds settle_within_{};
  WheelTimer settle_timer_ = WheelTimer::calling<&UpstreamSession::on_settle_timer>(this);
  SteadyTime heard_at_{};  // when bytes came last
  std::uint32_t asked_ = 0;  // PINGs since a piece of an answer came
  std::chrono::nanoseconds alive_within_{};
  WheelTimer alive_timer_ = WheelTimer::calling<&UpstreamSession::on_alive_timer>(this);
  HandlerMemory send_memory_;
};

}  // namespace sluice::gateway::http2
