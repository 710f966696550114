// A client's HTTP/2 connection (RFC 9113): its frames, its streams, and what it may ask for without
// paying. Each stream is an exchange of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/http/stream.h"
#include "gateway/http2/client_stream.h"
#include "gateway/http2/codec.h"
#include "gateway/http2/fields.h"
#include "gateway/http2/flood.h"
#include "gateway/http2/hooks.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/handler_memory.h"

namespace sluice::gateway::http2 {

// With prior knowledge a client begins with this (RFC 9113 section 3.4).
inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

class Connection final : public Session, public RefCounted<Connection>, private TransportUser {
 public:
  static constexpr std::uint32_t kMaxStreams = 100;  // at a time

  // From the preface on: `early` is what was read of it already. After ALPN has chosen h2 (RFC
  // 7301) call it with the established transport in `client`.
  static void start(Worker& worker, Client client, std::string_view early = {});

  explicit Connection(Worker& worker);
  ~Connection();

  void drain() override;
  void abort() override;
  const Listener& listener() const override { return client_->ticket.listener(); }
  int fd() const override { return client_->transport->fd(); }

  // --- for its streams ---
  Worker& worker() { return worker_; }
  const Client& client() const { return *client_; }
  std::string_view peer_text();
  Codec& codec() { return codec_; }
  FieldList& fields() { return fields_; }
  void add_event(ClientStream& stream) { events_.push_back(stream); }
  void add_waiting(ClientStream& stream) { waiting_.push_back(stream); }
  bool submit_response(ClientStream& stream, bool has_body);
  void submit_interim(std::int32_t id, const http::ResponseHead& head);
  void submit_trailers(std::int32_t id, std::string_view lines);  // may be from a callback
  // `resume`: a stream that has something to send again; 0: none.
  void push(std::int32_t resume);
  void give_window_back(const ClientStream& stream, std::size_t bytes, bool closed);
  void no_more_requests();
  // Its last call: it is recycled when this returns.
  void stream_ended(ClientStream& stream, http::Ending ending, bool input_ended, bool closed);

 private:
  Client* held() override { return client_ ? &*client_ : nullptr; }
  struct Callbacks;  // server_callbacks.cc
  friend SessionPtr make_server_session(Connection& connection);
  static ssize_t read_output(nghttp2_session* session, std::int32_t id, std::uint8_t* to,
                             std::size_t most, std::uint32_t* flags, nghttp2_data_source* source,
                             void* user);
  using Waiting = StreamList<ClientStream, &ClientStream::write_hook>;

  void begin(std::string_view early);
  void announce();
  void on_readable() override;
  void on_writable() override;
  void on_timer();
  void proceed(const Codec::Receipt& receipt);
  void handle_events();
  void wake_waiting();
  void send();
  void send_later();
  void fail(int error);
  bool admit(Abuse kind);  // false: the connection is being ended
  void end_for_abuse(Abuse kind);
  void linger(std::int32_t id);
  void end_lingering();
  void cancel_all(std::string_view reason);
  void goaway_sent();
  void name_last_stream();  // what comes after it is not looked at
  void arm();
  void close();

  Worker& worker_;
  std::optional<Client> client_;
  Codec codec_;
  FieldList fields_;
  FloodGuard floods_;
  StreamList<ClientStream, &ClientStream::open_hook> open_;
  StreamList<ClientStream, &ClientStream::event_hook> events_;
  Waiting waiting_;
  std::uint32_t open_streams_ = 0;
  std::uint32_t requests_ = 0;
  std::uint32_t continuations_ = 0;  // of the head under way
  bool in_head_ = false;             // a head has begun and not ended
  bool head_timer_ = false;          // timer_ is for that
  bool ending_ = false;              // no more requests are wanted
  bool last_named_ = false;          // … and the client knows which was the last
  bool abused_ = false;              // for what the peer did
  bool send_posted_ = false;
  bool handling_ = false;  // handle_events() is at it
  std::string peer_text_;
  WheelTimer timer_ = WheelTimer::calling<&Connection::on_timer>(this);
  std::vector<std::int32_t> lingering_;  // answered, and still sending
  WheelTimer linger_timer_ = WheelTimer::calling<&Connection::end_lingering>(this);
  RefPtr<Connection> self_;  // while open
  HandlerMemory send_memory_;
};

}  // namespace sluice::gateway::http2
