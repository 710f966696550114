// One request and its answer, whatever protocol either side speaks. Its life is a row of phases,
// each a function of that name in a file of that name:
//
//   head ─► target ─► route ─► authority ─► auth ─► access ─► limits ─► pick ─► connect ─► send ─►
//   relay ─► settle ─► log
//
// (Accept lies before it: Listener and the protocols' connections. Access rules and limits are a
// route's, so the route is found first.) Any phase may refuse() instead of going on; a failed try
// goes back to pick. Both directions run at the same time from send on: an origin may answer before
// the body has come.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/auth/attributes.h"
#include "gateway/authority_names.h"
#include "gateway/compression/compressor.h"
#include "gateway/http/grpc.h"
#include "gateway/http/mediator.h"
#include "gateway/http/stream.h"
#include "gateway/http/subrequest.h"
#include "gateway/http/trace_context.h"
#include "gateway/http1/head.h"
#include "gateway/limit_gate.h"
#include "gateway/redis/shared_accounts.h"
#include "gateway/timer_wheel.h"
#include "gateway/tls/identity.h"
#include "gateway/tracing/span.h"
#include "gateway/upstream/upstream_worker.h"
#include "gateway/worker_config.h"
#include "policy/field_template.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http {

struct NamedClient;

class Exchange final : public UpstreamEvents,
                       private LimitGateUser,
                       private SubrequestUser,
                       private AuthorityUser,
                       private WaitUser,
                       private policy::VariableSource {
 public:
  explicit Exchange(Worker& worker);

  // `client` has the first bytes of a request. It outlives this exchange until ended().
  void begin(ClientStream& client);
  void client_gone(std::string_view reason);  // it cannot get an answer, or no more of it

  void on_client_readable();
  void on_client_writable();
  std::optional<ProxiedClient> proxied_client() const override;
  void on_upstream_connected() override;
  void on_upstream_connect_failed(const ConnectFailure& failure) override;
  void on_upstream_readable() override;
  void on_upstream_writable() override;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kMaxTries = 8;
  static constexpr std::uint32_t kMaxInterim = 16;  // 1xx answers before the final one
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

  static constexpr std::size_t kHopFields = 5;

  enum class State : std::uint8_t {
    head,
    verifying,
    authorizing,
    waiting,
    collecting,
    connecting,
    backing_off,
    exchanging,
    refusing,
    ended
  };
  enum class Staged : std::uint8_t { some, need_more, ended };

  // --- phases ---
  void head();
  void target();
  void route();
  bool authority_holds(bool by_name);  // authority
  void authenticate(const policy::CompiledRoute& route);
  bool may_use(const policy::CompiledRoute& route);  // access
  void limits();
  void pick();
  void connect();
  std::expected<UpstreamStreamPtr, ConnectFailure> open_stream();
  std::expected<UpstreamStreamPtr, ConnectFailure> open_elsewhere();
  void send();
  void relay();
  void answer_begins();
  void settle();
  void settle_tokens();  // of limits, once it is known what the call took
  void log();

  // head, target
  void find_client();
  void believe(const NamedClient& named);
  void find_client_in_x_forwarded_for();
  void find_client_in_forwarded();
  http1::KnownFieldSet not_believed() const;  // of what the peer says of the client
  void add_hop(http1::RequestForwarding& options, std::span<ExtraField, kHopFields> memory);
  std::size_t without_changed(std::span<ExtraField> fields) const;
  void write_forwarded(bool kept);
  void write_earlier_hop();
  std::string_view client_text() const;  // address_; until the next call
  void correlate();
  void make_request_id();
  std::size_t correlate_hop(http1::RequestForwarding& options, std::span<ExtraField> memory);
  void return_request_id(std::string& lines) const;
  void return_request_id(ResponseHead& response, AnswerEdits& edits);
  // traces (tracing.cc)
  bool starts_traces() const;
  bool sample();
  void begin_spans();
  void begin_try_span();
  Span* new_span(Span::Kind kind);
  void trace_try(Outcome outcome, int status);
  void trace_request();
  std::string_view request_id() const { return {id_.data(), id_size_}; }
  std::string_view trace_id() const { return {trace_id_.data(), traced_ ? kTraceIdSize : 0}; }
  bool normalise_target();
  bool admit();  // false: overload has refused it
  void refuse_malformed(ParseError error);
  void arm_deadline(std::chrono::nanoseconds route_timeout);
  // pick, connect
  PickRequest pick_request();
  bool suits_express() const;
  std::uint64_t hash_value();
  std::optional<std::uint32_t> sticky_endpoint();
  void stick_to_endpoint(AnswerEdits& edits);
  void nobody_picked(PickError error);
  void on_place() override;
  void on_queue_timeout() override;
  void count_connection();
  void count_failure(UpstreamFailure failure);
  void connect_failed(const ConnectFailure& failure);
  // send
  bool begin_request();
  bool pump_request();  // false: it has ended, or has been relayed
  Staged stage_request();
  Staged read_request();
  void request_broken();
  void request_sent();
  // relay
  Staged stage_answer();
  Staged stage_head();
  Staged stage_interim();
  bool begin_answer();
  void answer_broken(std::string_view reason, UpstreamFailure failure);
  void answer_grew_too_large();
  void did_not_switch();
  bool take_answer_back();
  void hold_less();
  bool retry_for_status();
  bool retry_for_call();
  Outcome outcome_of_answer() const;
  void tunnel();
  // route, authority, access, limits
  void routed();  // the route or what stands for it is known, and the name holds
  void on_authority(policy::AuthorityVerdict verdict) override;
  bool authority_judged(policy::AuthorityVerdict verdict);
  void find_proof(policy::RequestView& view);
  const tls::Identity* certificate() const;
  const policy::IpAddress& client_address() const;
  policy::RequestView view(const policy::FieldSource& fields, bool with_destination);
  std::optional<std::uint32_t> find_route(const policy::RouteTable& table);
  void on_limits_passed() override;
  void on_limits_refused() override;
  void use_upstream(std::uint32_t index);
  void leave_as_tunnel();
  void client_ended_tunnel();
  void edit_handshake(http1::RequestForwarding& options);
  void edit_handshake_answer(ResponseHead& response);
  bool accepted_handshake(const ResponseHead& response) const;
  bool says_switched(int status) const;
  std::optional<std::uint32_t> match(const policy::RouteTable& table, std::string_view method);
  // what the route does besides forwarding (route_actions.cc); called where it does anything
  bool is_preflight() const;
  bool begin_actions();    // false: the exchange is answered
  bool answer_directly();  // true: the route answers by itself
  void answer_preflight();
  void redirect(const policy::Redirect& redirect);
  void respond(int status, std::span<const ExtraField> fields, std::string_view body);
  void edit_request(http1::RequestForwarding& options);
  AnswerEdits edit_answer(ResponseHead& response);
  std::string_view lines_of_own_answer();
  bool answer_too_large(const ResponseHead& response);
  void append_lines(const policy::CompiledChanges& changes, std::string& out) const;
  void request_too_large();
  std::string_view client_scheme() const;  // behind trusted proxies what they say
  std::string_view own_scheme() const;     // of the connection to us
  std::string_view certificate_variable(policy::Variable name) const;
  std::string_view variable(policy::Variable name, std::string_view argument) const override;
  // compression
  // The answer's body may pass by unseen.
  bool takes_splice() const { return answer_left_ == kNoLimit && !compressor_ && !mediator_; }
  bool begin_compression(ResponseHead& response);
  bool take_compressed(bool at_end);
  void end_compression();
  // mirror
  void begin_mirror(const http1::RequestForwarding& options);
  void mirror_body(std::string_view data);
  void send_mirror();
  void drop_mirror(MirrorResult why);
  // where a mediator stands between both sides (mediation.cc)
  std::string_view left_by() const;
  bool begin_mediation();  // false: the exchange is answered
  void collect();
  void ask_for_body();
  void collect_more();
  void collected();
  void limit_tokens();
  void take_shares();
  void shared(const SharedVerdict* said);
  bool begin_mediated();
  bool fail_over(Outcome outcome, int status);
  Staged stage_mediated();
  bool mediated_head();
  bool give_mediated();
  Staged mediated_end();
  Staged mediated_broken();
  void refuse_mediated(int status, std::string_view reason, std::span<const ExtraField> extra);
  void answer_mediated(const Mediator::Answer& answer);
  void send_answer(const Mediator::Answer& answer);
  void break_off_mediated(std::string_view reason);
  // auth
  bool know_caller(const policy::CompiledRoute& route);
  void challenge(const policy::Auth& config, std::string_view why);
  void ask_next();
  void after_auth();
  void ask(const auth::AuthEntry& entry);
  void no_answer(std::string_view why);
  void pass_refusal_on(const Subrequest& subrequest, bool whole);
  void on_subrequest_ended(Subrequest& subrequest, SubrequestEnd end) override;
  // retries
  bool repeatable() const;  // a second time does no harm
  bool replayable() const;  // the whole request can be sent again
  void upstream_failed();   // before a byte of the answer
  bool try_again(std::uint32_t condition, Outcome outcome);
  std::optional<std::chrono::nanoseconds> retry_pause(std::uint32_t condition) const;
  void on_try_timer();
  void observe_latency(Outcome outcome, Clock::time_point now);
  void end_attempt(Outcome outcome, int status = 0);  // the last one
  void end_try(Outcome outcome, int status);
  void end_retries();
  void drop_upstream();
  // own answers
  void refuse(int status, std::string_view reason, std::span<const ExtraField> extra = {});
  void refuse_after(int status, std::string_view reason, std::uint64_t retry_after_seconds);
  void refuse_call(std::string_view reason);
  // ends
  void cut_short(std::string_view reason);
  void end(Ending ending);

  void rearm();
  void on_timer();
  void on_deadline();
  std::chrono::nanoseconds patience() const;
  bool waits_for_first() const;
  bool may_be_quiet() const;
  void upstream_quiet();
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
  policy::IpAddress address_;      // the client's: the peer's, or what trusted proxies say
  policy::ClientIdentity proven_;  // by a certificate
  bool address_claimed_ = false;   // it is what they say: never banned in the kernel
  bool behind_proxy_ = false;      // the peer is a trusted one
  std::string_view said_scheme_;   // by it: a literal; "": it does not say
  mutable std::string client_text_;
  std::string x_forwarded_for_;
  std::string forwarded_;
  std::array<char, kMaxRequestId> id_;
  std::size_t id_size_ = 0;  // 0: none
  std::array<char, kTraceIdSize> trace_id_;
  std::array<char, kTraceParentSize> traceparent_;
  bool traced_ = false;
  bool joined_trace_ = false;  // it is another's
  bool sampled_ = false;
  bool recorded_ = false;          // its spans go to a collector
  std::uint64_t span_ = 0;         // of the request
  std::uint64_t parent_span_ = 0;  // 0: none
  std::uint64_t try_span_ = 0;
  std::uint32_t try_resends_ = 0;  // of the request, before the try
  int try_status_ = 0;             // of its answer; 0: none yet
  Clock::time_point decided_;      // by the policy: when it was first sent on
  Clock::time_point try_begun_;
  std::string joined_field_;  // a field of several lines, as one

  // The decision.
  std::optional<std::uint32_t> route_;
  std::uint32_t upstream_index_ = 0;
  const Cluster* cluster_ = nullptr;
  std::optional<policy::SocketAddress> destination_;
  LimitGate gate_{worker_, this};
  AuthorityWaiter authority_waiter_{*this};

  const policy::CompiledActions* actions_ = nullptr;  // null: the route only forwards
  std::uint64_t body_left_ = kNoLimit;                // payload that may still come
  std::uint64_t answer_left_ = kNoLimit;              // the same of the answer
  std::string request_lines_;                         // field lines that the route adds
  std::string answer_lines_;
  std::string new_path_;
  auth::AttributeStore attributes_;  // of the caller
  std::string auth_lines_;           // what external services say of it
  std::string challenge_;            // field line of a 401
  std::size_t next_auth_ = 0;        // of the route's
  std::unique_ptr<Subrequest> subrequest_;
  std::unique_ptr<Compressor> compressor_;  // of the answer under way
  std::string compressed_;                  // until it is with the client
  bool flush_compressor_ = false;
  bool tunnelling_ = false;             // bytes go both ways without an end of their own
  std::string websocket_key_;           // of ours, towards the origin
  std::unique_ptr<Subrequest> mirror_;  // the copy that is being written
  bool mirror_decided_ = false;         // whether there is one
  mutable std::array<char, 8> port_text_{};
  std::unique_ptr<Mediator> mediator_;  // null: bytes pass as they are
  std::string mediated_;  // of the request, then of the answer until it is with the client
  std::string mediated_last_;
  bool collected_ = false;              // the mediator has the whole request
  std::shared_ptr<SharedTake> shares_;  // that Redis was asked for
  bool deadline_passed_ = false;

  // The try under way.
  Attempt attempt_;
  EndpointSlot endpoint_slot_{};
  UpstreamStreamPtr upstream_;
  std::array<const Endpoint*, kMaxTries> tried_{};
  std::uint32_t tries_ = 0;  // after the first
  std::uint32_t protocol_changes_ = 0;
  std::uint32_t unprocessed_ = 0;           // tries that came back as looked at by nobody
  bool fresh_only_ = false;                 // the pooled connection was stale: not another of them
  bool retrying_ = false;                   // holds a share of the retry budget
  Waiter waiter_{*this};                    // for a connection, or DNS
  std::optional<std::uint32_t> sticks_to_;  // endpoint, by its cookie
  bool send_broken_ = false;   // the origin takes no more; it may have answered all the same
  bool answer_begun_ = false;  // a byte of it has come

  // The answer.
  bool head_forwarded_ = false;
  bool answer_done_ = false;
  bool holds_less_ = false;
  std::uint32_t interim_ = 0;
  int status_ = 0;  // what the client gets
  int grpc_status_ = grpc::kNoStatus;

  // What is logged and counted.
  Clock::time_point begun_;
  Clock::time_point picked_;
  Clock::time_point sent_;                   // the request, as a whole, in this try
  std::chrono::nanoseconds connected_in_{};  // TLS with it; 0: the connection was there
  Clock::time_point first_byte_;
  std::string reason_;
  policy::SocketAddress endpoint_;

  WheelTimer try_timer_ = WheelTimer::calling<&Exchange::on_try_timer>(this);
  WheelTimer timer_ = WheelTimer::calling<&Exchange::on_timer>(this);
  WheelTimer deadline_ = WheelTimer::calling<&Exchange::on_deadline>(this);
};

}  // namespace sluice::gateway::http
