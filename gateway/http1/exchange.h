// One request and its answer. Its life is a row of phases, each a function of that name in a file
// of that name:
//
//   head ─► access ─► route ─► limits ─► pick ─► connect ─► send ─► relay ─► settle ─► log
//
// (Accept lies before it: Listener and Connection. Limits are a route's, so the route is found
// first.) Any phase may refuse() instead of going on; a failed try goes back to pick. Both
// directions run at the same time from send on: an origin may answer before the body has come.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/buffer.h"
#include "gateway/http1/body.h"
#include "gateway/http1/connection.h"
#include "gateway/http1/forward.h"
#include "gateway/http1/head.h"
#include "gateway/outbox.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/upstream_worker.h"
#include "gateway/worker_config.h"

namespace sluice::gateway::http1 {

class Exchange final : public ConnectHandler, public UpstreamUser {
 public:
  explicit Exchange(Worker& worker);

  // `connection` has the first bytes of a request. It owns this exchange until exchange_ended().
  void begin(Connection& connection);
  void cancel();  // the connection is to be closed now

  void on_client_readable();
  void on_client_writable();
  void on_upstream_readable() override;
  void on_upstream_writable() override;
  void on_connected(UpstreamConnection& connection) override;
  void on_connect_failed(UpstreamConnection& connection, const ConnectFailure& failure) override;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kMaxTries = 8;
  static constexpr std::uint32_t kMaxInterim = 16;    // 1xx answers before the final one
  static constexpr std::size_t kBodyRoom = 8 * 1024;  // below this, room is made for more body
  static constexpr std::size_t kSliceReserve = 4;     // of the outbox: a chunk and its frame

  enum class State : std::uint8_t { head, connecting, exchanging, refusing, ended };
  enum class Staged : std::uint8_t { some, need_more, ended };

  // --- phases ---
  void head();
  void access();
  void route();
  void limits(const policy::CompiledRoute& route);
  void pick();
  void connect();
  void send();
  void relay();
  void settle();
  void log();

  // head, access
  void head_timeout();
  bool normalise_target();
  // connect
  void connect_failed(const ConnectFailure& failure);
  // send
  bool build_request_head();
  void pump_request();
  bool stage_request_body();  // false: the coding is broken, and the exchange has ended
  bool read_request_body();   // false: nothing now, or the exchange has ended
  void request_sent();
  void watch_client();
  // relay
  Staged stage_response();
  Staged stage_response_head();
  Staged stage_interim();
  bool build_response_head();
  Staged stage_response_body();
  void stage_chunk(std::string_view data);
  ReadResult read_upstream();
  void upstream_ended();
  void bad_response(std::string_view reason);
  bool retry_for_status();
  void tunnel();
  void use_upstream(std::uint32_t index);
  // retries
  bool replayable() const;  // the whole request can be sent again
  void upstream_failed();   // before a byte of the answer
  bool try_again(std::uint32_t condition, Outcome outcome);
  void end_attempt(Outcome outcome, int status = 0);
  void drop_upstream();
  // own answers
  void refuse(int status, std::string_view reason);
  void refuse_after(int status, std::string_view reason, std::uint64_t retry_after_seconds);
  bool skip_request_body();  // true: it is here as a whole
  // ends
  void client_gone(std::string_view reason);
  void cut_short(std::string_view reason);
  void end(After after);
  After after_response() const;

  void rearm();
  void on_timer();
  void on_deadline();
  std::chrono::nanoseconds patience() const;
  const policy::ListenerTimeouts& timeouts() const;
  bool may_keep_client() const;
  bool request_complete() const { return request_body_.done(); }
  void reset();

  Worker& worker_;
  Connection* connection_ = nullptr;
  RefPtr<WorkerConfig> config_;
  State state_ = State::ended;

  // The request.
  RequestParser request_parser_;
  RequestHead request_;
  BodyReader request_body_;
  std::size_t body_at_ = 0;    // in the connection's input: where the body goes on
  bool body_dropped_ = false;  // some of it is sent and gone: no second try
  std::string path_;           // where the received one was not in normal form
  std::string_view normal_path_;
  std::array<char, 256> host_memory_;
  std::string_view host_;

  // The decision.
  std::optional<std::uint32_t> route_;
  std::uint32_t upstream_index_ = 0;
  const Cluster* cluster_ = nullptr;
  std::optional<policy::SocketAddress> destination_;

  // The try under way.
  Attempt attempt_;
  EndpointSlot endpoint_slot_{};
  UpstreamConnectionPtr upstream_;
  std::array<const Endpoint*, kMaxTries> tried_{};
  std::uint32_t tries_ = 0;   // after the first
  bool fresh_only_ = false;   // the pooled connection was stale: not another of them
  bool retrying_ = false;     // holds a share of the retry budget
  bool send_broken_ = false;  // the origin takes no more; it may have answered all the same
  Outbox to_upstream_;
  std::array<char, 2048> request_memory_;

  // The answer.
  ResponseParser response_parser_;
  ResponseHead response_;
  BodyReader response_body_;
  ForwardedResponse forwarded_;
  BufferPtr received_;  // from the origin; none while nothing is there
  std::size_t received_begin_ = 0;
  std::size_t received_end_ = 0;
  bool upstream_drained_ = false;  // the last read emptied the socket
  bool answer_begun_ = false;      // a byte of it has come
  bool head_forwarded_ = false;
  bool response_complete_ = false;
  bool close_after_ = false;
  bool linger_after_ = false;
  std::uint32_t interim_ = 0;
  int status_ = 0;  // what the client gets
  Outbox to_client_;
  std::array<char, 2048> response_memory_;
  std::array<char, 24> chunk_memory_;

  // What is logged and counted.
  Clock::time_point begun_;
  Clock::time_point picked_;
  Clock::time_point sent_;
  Clock::time_point first_byte_;
  std::uint64_t bytes_to_client_ = 0;
  std::uint64_t bytes_to_upstream_ = 0;
  std::uint64_t bytes_from_upstream_ = 0;
  std::string reason_;
  policy::SocketAddress endpoint_;

  WheelTimer timer_ = WheelTimer::calling<&Exchange::on_timer>(this);
  WheelTimer deadline_ = WheelTimer::calling<&Exchange::on_deadline>(this);
};

}  // namespace sluice::gateway::http1
