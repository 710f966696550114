// What one worker counts: plain arrays with a single writer, read by the control thread. No lock,
// no allocation.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace sluice::gateway {

enum class WayIn : std::uint8_t;  // gateway.h

// Indices into the workers' arrays; Metrics::begin_generation gives them out.
enum class ListenerSlot : std::uint32_t {};
enum class RouteSlot : std::uint32_t {};
enum class UpstreamSlot : std::uint32_t {};
enum class EndpointSlot : std::uint32_t {};
enum class LimitSlot : std::uint32_t {};
enum class AuthSlot : std::uint32_t {};

enum class AuthResult : std::uint8_t { allowed, denied, error };

// Only its worker adds; anybody may read. An add is a load and a store, without the bus lock of an
// atomic increment.
class SingleWriterCounter {
 public:
  void add(std::uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  void reset() { value_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Upper bounds in nanoseconds, 50 µs (a round trip within a rack) to 60 s; longer ones fall into
// the last, unbounded bucket.
inline constexpr std::array<std::uint64_t, 19> kDurationBounds{
    50'000,        100'000,        250'000,        500'000,       1'000'000,
    2'500'000,     5'000'000,      10'000'000,     25'000'000,    50'000'000,
    100'000'000,   250'000'000,    500'000'000,    1'000'000'000, 2'500'000'000,
    5'000'000'000, 10'000'000'000, 30'000'000'000, 60'000'000'000};

class DurationHistogram {
 public:
  void observe(std::chrono::nanoseconds duration) {
    const std::uint64_t ns =
        duration.count() < 0 ? 0 : static_cast<std::uint64_t>(duration.count());
    std::size_t i = 0;
    while (i < kDurationBounds.size() && ns > kDurationBounds[i])
      ++i;
    buckets_[i].add();
    sum_ns_.add(ns);
  }
  std::uint64_t bucket(std::size_t i) const { return buckets_[i].get(); }  // not cumulative
  std::uint64_t sum_ns() const { return sum_ns_.get(); }
  void reset();

 private:
  std::array<SingleWriterCounter, kDurationBounds.size() + 1> buckets_;
  SingleWriterCounter sum_ns_;
};

inline constexpr std::size_t kWays = 4;         // WayIn
inline constexpr std::size_t kMaxReasons = 48;  // parse errors
inline constexpr std::size_t kHttp2Abuses = 9;  // http2::Abuse
enum class LimitOutcome : std::uint8_t { allowed, rejected, delayed, counted };
inline constexpr std::size_t kLimitOutcomes = 4;
inline constexpr std::size_t kBanEvents = 5;         // policy::BanEvent
inline constexpr std::size_t kAuthorityResults = 4;  // policy::AuthorityVerdict
inline constexpr std::size_t kTlsFailures = 15;      // tls::Failure
inline constexpr std::size_t kMaxConnectErrors = 12;
inline constexpr std::size_t kStatusClasses = 6;  // 1xx to 5xx, and 0: no answer was sent

// Why a try that was sent got no whole answer.
enum class UpstreamFailure : std::uint8_t {
  reset,      // closed before a byte of it
  timeout,    // no byte of it in time
  malformed,  // it could not be understood
  cut_short,  // closed within it
  stalled,    // no further byte of it in time
};
inline constexpr std::size_t kUpstreamFailures = 5;

// What became of a copy for a mirror.
enum class MirrorResult : std::uint8_t {
  sent,
  too_large,    // its body
  too_many,     // of them are under way
  unavailable,  // no endpoint could be asked
  incomplete,   // the request itself ended before its body did
};
inline constexpr std::size_t kMirrorResults = 5;
inline constexpr std::size_t kGrpcStatuses = 18;  // of calls: 0 to 16, and none

// Why a span is lost.
enum class SpanDrop : std::uint8_t {
  full,      // the worker's ring
  unsent,    // the collector did not take it in time
  rejected,  // the collector does not want it
};
inline constexpr std::size_t kSpanDrops = 3;

// What the kernel knows of a connection to an endpoint (TCP_INFO), at the end of an answer or of a
// relay.
struct NetworkSample {
  std::chrono::nanoseconds round_trip{};  // smoothed
  std::uint32_t retransmits = 0;          // segments, since the connection's last sample
};

struct ListenerCounters {
  std::array<SingleWriterCounter, kWays> opened;
  std::array<SingleWriterCounter, kWays> closed;
  SingleWriterCounter full_pauses;      // max_connections were open
  SingleWriterCounter resource_pauses;  // descriptors or memory ran out
  SingleWriterCounter proxy_headers_refused;
  SingleWriterCounter access_denied;  // connections and requests
  std::array<SingleWriterCounter, kAuthorityResults> authority;
  std::array<SingleWriterCounter, kBanEvents> bans;  // asked for because of an event
  std::array<SingleWriterCounter, kBanEvents> audited_bans;  // only logged
  SingleWriterCounter shed_connections;              // requests refused by overload
  SingleWriterCounter shed_memory;
  SingleWriterCounter bytes_in;   // from clients
  SingleWriterCounter bytes_out;  // to clients
  SingleWriterCounter requests_begun;
  SingleWriterCounter requests_ended;
  std::array<SingleWriterCounter, kMaxReasons> parse_errors;
  std::array<SingleWriterCounter, kHttp2Abuses> http2_abuse;
  std::array<SingleWriterCounter, 4> tls_handshakes;  // bit 0: resumed, bit 1: TLS 1.3
  std::array<SingleWriterCounter, kTlsFailures> tls_failures;
  void reset();
};

struct RouteCounters {
  std::array<SingleWriterCounter, kStatusClasses> requests;
  DurationHistogram duration;
  std::array<SingleWriterCounter, kMirrorResults> mirrored;
  std::array<SingleWriterCounter, kGrpcStatuses> calls;
  void reset();
};

struct UpstreamCounters {
  SingleWriterCounter retries;
  SingleWriterCounter retries_refused;      // no budget left
  SingleWriterCounter no_endpoint;          // none could be picked
  SingleWriterCounter connections_refused;  // circuit breaker
  std::array<SingleWriterCounter, kMaxReasons> parse_errors;
  void reset();
};

struct EndpointCounters {
  std::array<SingleWriterCounter, kStatusClasses> requests;
  SingleWriterCounter requests_begun;
  SingleWriterCounter requests_ended;
  SingleWriterCounter connections_opened;
  std::array<SingleWriterCounter, kMaxConnectErrors> connect_failures;
  SingleWriterCounter tls_failures;  // of them
  SingleWriterCounter connections_reused;
  SingleWriterCounter connections_stale;
  std::array<SingleWriterCounter, kUpstreamFailures> failures;
  SingleWriterCounter bytes_sent;
  SingleWriterCounter bytes_received;
  SingleWriterCounter retransmits;
  DurationHistogram connect;
  DurationHistogram first_byte;
  DurationHistogram round_trip;
  DurationHistogram origin;
  void reset();
};

struct LimitCounters {
  std::array<SingleWriterCounter, kLimitOutcomes> verdicts;
  SingleWriterCounter bans;  // asked for because of this limit
  SingleWriterCounter audited_bans;  // only logged
  void reset();
};

struct AuthCounters {
  std::array<SingleWriterCounter, 3> results;  // AuthResult
  void reset();
};

// Grows in blocks that never move: the control thread adds one before any slot in it is given out.
template <typename Counters, typename Slot>
class CounterTable {
 public:
  Counters& at(Slot slot) { return block(slot)[static_cast<std::uint32_t>(slot) % kBlock]; }
  const Counters& at(Slot slot) const {
    return block(slot)[static_cast<std::uint32_t>(slot) % kBlock];
  }
  // Control thread. False beyond kBlock * kBlocks slots.
  bool reserve(std::uint32_t slots) {
    if (slots > kBlock * kBlocks) return false;
    for (std::uint32_t i = 0; i * kBlock < slots; ++i) {
      if (!blocks_[i]) blocks_[i] = std::make_unique<Counters[]>(kBlock);
    }
    return true;
  }

  static constexpr std::uint32_t kBlock = 64;
  static constexpr std::uint32_t kBlocks = 1024;

 private:
  Counters* block(Slot slot) const {
    return blocks_[static_cast<std::uint32_t>(slot) / kBlock].get();
  }
  std::array<std::unique_ptr<Counters[]>, kBlocks> blocks_;
};

// The counters of one worker. The add functions are for that worker's thread only.
class WorkerMetrics {
 public:
  void connection_opened(ListenerSlot l, WayIn way) { listeners_.at(l).opened[index(way)].add(); }
  void connection_closed(ListenerSlot l, WayIn way) { listeners_.at(l).closed[index(way)].add(); }
  void shed(ListenerSlot l, bool memory) {
    (memory ? listeners_.at(l).shed_memory : listeners_.at(l).shed_connections).add();
  }
  void proxy_header_refused(ListenerSlot l) { listeners_.at(l).proxy_headers_refused.add(); }
  void listener_full(ListenerSlot l) { listeners_.at(l).full_pauses.add(); }
  void accept_paused(ListenerSlot l) { listeners_.at(l).resource_pauses.add(); }
  void client_bytes(ListenerSlot l, std::uint64_t in, std::uint64_t out) {
    listeners_.at(l).bytes_in.add(in);
    listeners_.at(l).bytes_out.add(out);
  }
  // `reason`: an index into MetricsOptions::parse_errors; larger ones are counted as the last.
  void parse_error(ListenerSlot l, std::size_t reason) {
    listeners_.at(l).parse_errors[reason < kMaxReasons ? reason : kMaxReasons - 1].add();
  }
  void http2_abuse(ListenerSlot l, std::size_t kind) { listeners_.at(l).http2_abuse[kind].add(); }
  void tls_handshake(ListenerSlot l, bool tls13, bool resumed) {
    listeners_.at(l).tls_handshakes[(tls13 ? 2U : 0U) | (resumed ? 1U : 0U)].add();
  }
  void tls_failed(ListenerSlot l, std::size_t reason) {
    listeners_.at(l).tls_failures[reason].add();
  }
  void upstream_parse_error(UpstreamSlot u, std::size_t reason) {
    upstreams_.at(u).parse_errors[reason < kMaxReasons ? reason : kMaxReasons - 1].add();
  }
  void request_begun(ListenerSlot l) { listeners_.at(l).requests_begun.add(); }
  // Once for each request_begun. `status`: what the client got; 0: nothing. `duration`: first byte
  // of the head to last of the answer.
  void request_ended(ListenerSlot l, RouteSlot r, int status, std::chrono::nanoseconds duration) {
    listeners_.at(l).requests_ended.add();
    routes_.at(r).requests[status_class(status)].add();
    routes_.at(r).duration.observe(duration);
  }

  // A call of gRPC; besides request_ended. `status`: what the client got; negative: none.
  void call_ended(RouteSlot r, int status) {
    const auto i = static_cast<std::size_t>(status < 0 ? -1 : status);
    routes_.at(r).calls[i < kGrpcStatuses ? i : kGrpcStatuses - 1].add();
  }

  void mirrored(RouteSlot r, MirrorResult result) {
    routes_.at(r).mirrored[static_cast<std::size_t>(result)].add();
  }

  void retried(UpstreamSlot u) { upstreams_.at(u).retries.add(); }
  void retry_refused(UpstreamSlot u) { upstreams_.at(u).retries_refused.add(); }
  void no_endpoint(UpstreamSlot u) { upstreams_.at(u).no_endpoint.add(); }
  void breaker_open(UpstreamSlot u) { upstreams_.at(u).connections_refused.add(); }

  void upstream_connected(EndpointSlot e, std::chrono::nanoseconds took) {
    endpoints_.at(e).connections_opened.add();
    endpoints_.at(e).connect.observe(took);
  }
  void upstream_tls_failed(EndpointSlot e) { endpoints_.at(e).tls_failures.add(); }
  // `reason`: an index into MetricsOptions::connect_errors.
  void upstream_connect_failed(EndpointSlot e, std::size_t reason) {
    endpoints_.at(e)
        .connect_failures[reason < kMaxConnectErrors ? reason : kMaxConnectErrors - 1]
        .add();
  }
  void upstream_reused(EndpointSlot e) { endpoints_.at(e).connections_reused.add(); }
  void upstream_stale(EndpointSlot e) { endpoints_.at(e).connections_stale.add(); }
  void upstream_failed(EndpointSlot e, UpstreamFailure failure) {
    endpoints_.at(e).failures[static_cast<std::size_t>(failure)].add();
  }
  void upstream_bytes(EndpointSlot e, std::uint64_t sent, std::uint64_t received) {
    endpoints_.at(e).bytes_sent.add(sent);
    endpoints_.at(e).bytes_received.add(received);
  }
  void upstream_request_begun(EndpointSlot e) { endpoints_.at(e).requests_begun.add(); }
  // Before anything was asked of it.
  void upstream_request_moved(EndpointSlot from, EndpointSlot to) {
    endpoints_.at(from).requests_ended.add();
    endpoints_.at(to).requests_begun.add();
  }
  void upstream_first_byte(EndpointSlot e, std::chrono::nanoseconds took) {
    endpoints_.at(e).first_byte.observe(took);
  }
  void upstream_network(EndpointSlot e, const NetworkSample& sample) {
    endpoints_.at(e).round_trip.observe(sample.round_trip);
    endpoints_.at(e).retransmits.add(sample.retransmits);
  }
  // `first_byte`: of the request that the sample was taken at.
  void upstream_network(EndpointSlot e, const NetworkSample& sample,
                        std::chrono::nanoseconds first_byte) {
    upstream_network(e, sample);
    endpoints_.at(e).origin.observe(first_byte - sample.round_trip);
  }
  // `status`: what the origin said; 0: nothing that could be used.
  void upstream_request_ended(EndpointSlot e, int status) {
    endpoints_.at(e).requests_ended.add();
    endpoints_.at(e).requests[status_class(status)].add();
  }

  // `verdict`: policy::AuthorityVerdict.
  void authority_judged(ListenerSlot l, std::size_t verdict) {
    listeners_.at(l).authority[verdict].add();
  }
  void access_denied(ListenerSlot l) { listeners_.at(l).access_denied.add(); }
  void limit_verdict(LimitSlot l, LimitOutcome outcome) {
    limits_.at(l).verdicts[static_cast<std::size_t>(outcome)].add();
  }
  // `event`: policy::BanEvent.
  void ban_requested(ListenerSlot l, std::size_t event, bool audit) {
    (audit ? listeners_.at(l).audited_bans : listeners_.at(l).bans)[event].add();
  }
  void auth_result(AuthSlot a, AuthResult result) {
    auths_.at(a).results[static_cast<std::size_t>(result)].add();
  }
  void ban_requested(LimitSlot l, bool audit) {
    (audit ? limits_.at(l).audited_bans : limits_.at(l).bans).add();
  }

  void spans_exported(std::uint64_t count) { spans_exported_.add(count); }
  void spans_dropped(SpanDrop why, std::uint64_t count) {
    spans_dropped_[static_cast<std::size_t>(why)].add(count);
  }

  static constexpr std::size_t status_class(int status) {
    return status >= 100 && status <= 599 ? static_cast<std::size_t>(status / 100) : 0;
  }

 private:
  friend class Metrics;
  friend struct MetricsState;
  static constexpr std::size_t index(WayIn way) { return static_cast<std::size_t>(way); }

  CounterTable<ListenerCounters, ListenerSlot> listeners_;
  CounterTable<RouteCounters, RouteSlot> routes_;
  CounterTable<UpstreamCounters, UpstreamSlot> upstreams_;
  CounterTable<EndpointCounters, EndpointSlot> endpoints_;
  CounterTable<LimitCounters, LimitSlot> limits_;
  CounterTable<AuthCounters, AuthSlot> auths_;
  SingleWriterCounter spans_exported_;
  std::array<SingleWriterCounter, kSpanDrops> spans_dropped_;
};

}  // namespace sluice::gateway
