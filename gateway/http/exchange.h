// One request and its answer, whatever protocol either side speaks. Its life is a row of phases,
// each a function of that name in a file of that name:
//
//   head ─► target ─► route ─► access ─► limits ─► pick ─► connect ─► send ─► relay ─► settle ─► log
//
// (Accept lies before it: Listener and the protocols' connections. Access rules and limits are a
// route's, so the route is found first.) Any phase may refuse() instead of going on; a failed try goes back to
// pick. Both directions run at the same time from send on: an origin may answer before the body has
// come.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/http/stream.h"
#include "gateway/limit_gate.h"
#include "gateway/http1/head.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/upstream_worker.h"
#include "gateway/worker_config.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http {

class Exchange final : public UpstreamEvents, private LimitGateUser {
 public:
  explicit Exchange(Worker& worker);

  // `client` has the first bytes of a request. It outlives this exchange until ended().
  void begin(ClientStream& client);
  void client_gone(std::string_view reason);  // it cannot get an answer, or no more of it

  void on_client_readable();
  void on_client_writable();
  void on_upstream_connected() override;
  void on_upstream_connect_failed(const ConnectFailure& failure) override;
  void on_upstream_readable() override;
  void on_upstream_writable() override;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kMaxTries = 8;
  static constexpr std::uint32_t kMaxInterim = 16;  // 1xx answers before the final one

  enum class State : std::uint8_t { head, waiting, connecting, exchanging, refusing, ended };
  enum class Staged : std::uint8_t { some, need_more, ended };

  // --- phases ---
  void head();
  void target();
  void route();
  bool may_use(const policy::CompiledRoute& route);  // access
  void limits();
  void pick();
  void connect();
  void send();
  void relay();
  void settle();
  void log();

  // head, target
  bool normalise_target();
  void refuse_malformed(ParseError error);
  void arm_deadline(std::chrono::nanoseconds route_timeout);
  // connect
  void count_connection();
  void connect_failed(const ConnectFailure& failure);
  // send
  bool begin_request();
  void pump_request();
  Staged stage_request();
  bool read_request();  // false: nothing now, or the exchange has ended
  void request_broken();
  void request_sent();
  // relay
  Staged stage_answer();
  Staged stage_head();
  Staged stage_interim();
  bool begin_answer();
  void answer_broken(std::string_view reason);
  bool retry_for_status();
  void tunnel();
  // route, access, limits
  const policy::IpAddress& client_address() const;
  policy::RequestView view(const policy::FieldSource& fields, bool with_destination);
  std::optional<std::uint32_t> find_route(const policy::RouteTable& table);
  void on_limits_passed() override;
  void on_limits_refused() override;
  void use_upstream(std::uint32_t index);
  // retries
  bool replayable() const;  // the whole request can be sent again
  void upstream_failed();   // before a byte of the answer
  bool try_again(std::uint32_t condition, Outcome outcome);
  void end_attempt(Outcome outcome, int status = 0);
  void drop_upstream();
  // own answers
  void refuse(int status, std::string_view reason, std::span<const ExtraField> extra = {});
  void refuse_call(std::string_view reason);
  // ends
  void cut_short(std::string_view reason);
  void end(Ending ending);

  void rearm();
  void on_timer();
  void on_deadline();
  std::chrono::nanoseconds patience() const;
  const Listener& listener() const { return client_->client().ticket.listener(); }
  const policy::ListenerTimeouts& timeouts() const { return listener().policy().timeouts; }
  void reset();

  Worker& worker_;
  ClientStream* client_ = nullptr;
  RefPtr<WorkerConfig> config_;
  State state_ = State::ended;

  // The request.
  RequestHead request_;
  bool head_read_ = false;     // request_ is valid
  bool grpc_ = false;          // it is a call of gRPC
  bool request_done_ = false;  // all of it was handed to the upstream
  std::string path_;           // where the received one was not in normal form
  std::string_view normal_path_;
  std::array<char, 256> host_memory_;
  std::string_view host_;
  std::string joined_field_;  // a field of several lines, as one

  // The decision.
  std::optional<std::uint32_t> route_;
  std::uint32_t upstream_index_ = 0;
  const Cluster* cluster_ = nullptr;
  std::optional<policy::SocketAddress> destination_;
  LimitGate gate_{worker_, this};

  // The try under way.
  Attempt attempt_;
  EndpointSlot endpoint_slot_{};
  UpstreamStreamPtr upstream_;
  std::array<const Endpoint*, kMaxTries> tried_{};
  std::uint32_t tries_ = 0;    // after the first
  bool fresh_only_ = false;    // the pooled connection was stale: not another of them
  bool retrying_ = false;      // holds a share of the retry budget
  bool send_broken_ = false;   // the origin takes no more; it may have answered all the same
  bool answer_begun_ = false;  // a byte of it has come

  // The answer.
  bool head_forwarded_ = false;
  bool answer_done_ = false;
  std::uint32_t interim_ = 0;
  int status_ = 0;  // what the client gets

  // What is logged and counted.
  Clock::time_point begun_;
  Clock::time_point picked_;
  Clock::time_point first_byte_;
  std::string reason_;
  policy::SocketAddress endpoint_;

  WheelTimer timer_ = WheelTimer::calling<&Exchange::on_timer>(this);
  WheelTimer deadline_ = WheelTimer::calling<&Exchange::on_deadline>(this);
};

}  // namespace sluice::gateway::http
