// Every series that the gateway's own counters make: its name, type, labels and help.
// docs/metrics.md is held against this by a test. Names after Prometheus' conventions: base units,
// `_total` for counters.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sluice::gateway {

enum class MetricKind : std::uint8_t { counter, gauge, histogram };

struct MetricInfo {
  std::string_view name;
  MetricKind kind = MetricKind::counter;
  std::array<std::string_view, 3> labels{};  // in the order in which the values are given; "" ends
  std::string_view help;
};

namespace metric {

using enum MetricKind;

// --- the process ---------------------------------------------------------------------------------

inline constexpr MetricInfo kBuildInfo{
    "sluice_build_info", gauge, {"version"}, "Always 1; the version that runs."};
inline constexpr MetricInfo kWorkers{
    "sluice_workers", gauge, {}, "Threads that serve connections."};
inline constexpr MetricInfo kReloads{
    "sluice_reloads_total", counter, {"result"}, "Policies given to the running process."};
inline constexpr MetricInfo kLastReloadSuccessful{
    "sluice_config_last_reload_successful",
    gauge,
    {},
    "1 when the newest policy is in force, 0 when it was refused and an older one is."};
inline constexpr MetricInfo kLastReloadTime{
    "sluice_config_last_reload_success_timestamp_seconds",
    gauge,
    {},
    "When a policy was last put in force by a reload, in Unix time; 0: never."};
inline constexpr MetricInfo kPolicyGeneration{
    "sluice_policy_generation",
    gauge,
    {"layer"},
    "Generation of the policy in force, by layer; layers that differ for long are out of step."};
inline constexpr MetricInfo kAccessLogLines{
    "sluice_access_log_lines_total", counter, {}, "Lines of the access log that were written."};
inline constexpr MetricInfo kAccessLogDropped{
    "sluice_access_log_dropped_total",
    counter,
    {},
    "Lines of the access log that were lost: a worker's ring was full, or the place that they go "
    "to did not take them."};

inline constexpr MetricInfo kSpansExported{"sluice_trace_spans_exported_total",
                                           counter,
                                           {},
                                           "Spans that the collector of `tracing` has taken."};
inline constexpr MetricInfo kSpansDropped{
    "sluice_trace_spans_dropped_total",
    counter,
    {"reason"},
    "Spans that are lost: full (a worker's ring, which nothing waits for), unsent (the collector "
    "did not take them in five tries, or the gateway ended) or rejected (by the collector)."};

// --- listeners -----------------------------------------------------------------------------------

inline constexpr MetricInfo kConnections{"sluice_connections_total",
                                         counter,
                                         {"listener", "way"},
                                         "Client connections accepted, by way in."};
inline constexpr MetricInfo kConnectionsActive{"sluice_connections_active",
                                               gauge,
                                               {"listener", "way"},
                                               "Client connections that are open, by way in."};
inline constexpr MetricInfo kConnectionsRefused{
    "sluice_connections_refused_total",
    counter,
    {"listener"},
    "The accept pauses whose reason is max_connections, under their older name."};
inline constexpr MetricInfo kAcceptPauses{
    "sluice_accept_pauses_total",
    counter,
    {"listener", "reason"},
    "Times that accepting stopped for a while: max_connections are open, or descriptors or memory "
    "ran out. New clients wait in the backlog meanwhile."};
inline constexpr MetricInfo kClientReceived{
    "sluice_client_received_bytes_total", counter, {"listener"}, "Bytes received from clients."};
inline constexpr MetricInfo kClientSent{
    "sluice_client_sent_bytes_total", counter, {"listener"}, "Bytes sent to clients."};
inline constexpr MetricInfo kRequestsActive{
    "sluice_requests_active", gauge, {"listener"}, "Requests under way."};
inline constexpr MetricInfo kParseErrors{
    "sluice_parse_errors_total",
    counter,
    {"listener", "reason"},
    "Requests refused as malformed, by reason; reasons that never came are left out."};

inline constexpr MetricInfo kHttp2Abuse{
    "sluice_http2_abuse_total",
    counter,
    {"listener", "kind"},
    "HTTP/2 connections ended with ENHANCE_YOUR_CALM, by what the client did."};

inline constexpr MetricInfo kAccessDenied{"sluice_access_denied_total",
                                          counter,
                                          {"listener"},
                                          "Connections and requests that an access rule refused."};
inline constexpr MetricInfo kAuthorityChecks{
    "sluice_authority_checks_total",
    counter,
    {"listener", "result"},
    "Names held against the addresses that clients have dialled (verify_authority), by result; "
    "results that never came are left out."};
inline constexpr MetricInfo kEventBans{
    "sluice_event_bans_total",
    counter,
    {"listener", "event"},
    "Bans that the gateway asked for because of an event, by event."};
inline constexpr MetricInfo kEventBansAudited{
    "sluice_event_bans_audited_total",
    counter,
    {"listener", "event"},
    "Bans because of an event that rules with mode: audit only logged, by event."};
inline constexpr MetricInfo kOverloadRefused{
    "sluice_overload_refused_total",
    counter,
    {"listener", "reason"},
    "Requests refused with 503 because connections or memory were short."};
inline constexpr MetricInfo kProxyProtocolRefused{
    "sluice_proxy_protocol_refused_total",
    counter,
    {"listener"},
    "Connections of trusted proxies closed because of their PROXY protocol header; left out while "
    "there were none."};
inline constexpr MetricInfo kTlsHandshakes{
    "sluice_tls_handshakes_total",
    counter,
    {"listener", "version", "resumed"},
    "TLS handshakes that clients have completed; left out while there were none."};
inline constexpr MetricInfo kTlsHandshakeFailures{
    "sluice_tls_handshake_failures_total",
    counter,
    {"listener", "reason"},
    "TLS handshakes of clients that failed, by reason; reasons that never came are left out."};

// --- routes --------------------------------------------------------------------------------------

inline constexpr MetricInfo kRequests{
    "sluice_requests_total",
    counter,
    {"listener", "route", "code"},
    "Requests that have ended, by the class of the status that the client got (none: it got no "
    "answer). route \"(none)\": no route claimed it."};
inline constexpr MetricInfo kRequestDuration{
    "sluice_request_duration_seconds",
    histogram,
    {"listener", "route"},
    "From the first byte of a request's head to the last of its answer."};

inline constexpr MetricInfo kGrpcRequests{
    "sluice_grpc_requests_total",
    counter,
    {"listener", "route", "grpc_status"},
    "Calls of gRPC that have ended, by the number of the status that the client got (none: it got "
    "none; 14: UNAVAILABLE). They are in sluice_requests_total too, mostly as 2xx: a call fails "
    "within an answer of 200. Statuses that never came are left out."};
inline constexpr MetricInfo kMirrored{
    "sluice_mirrored_requests_total",
    counter,
    {"listener", "route", "result"},
    "Copies of requests for a mirror: sent (whatever became of it, a connection that was refused "
    "included), or not because of a body above 1 MiB (too_large), of too many under way "
    "(too_many), because there was no endpoint or no place at one (unavailable), or because the "
    "request itself ended before its body did (incomplete). Results that never came are left "
    "out."};

// --- upstreams -----------------------------------------------------------------------------------

inline constexpr MetricInfo kRetries{"sluice_upstream_retries_total",
                                     counter,
                                     {"upstream"},
                                     "Requests sent again after a failed try."};
inline constexpr MetricInfo kRetriesRefused{
    "sluice_upstream_retries_refused_total",
    counter,
    {"upstream"},
    "Failed tries that were not repeated although retry allows it: retries under way were at "
    "retry.budget (a share of the upstream's requests, three at least) or "
    "circuit_breakers.retries. "
    "Rising, while retries rise too: most requests fail, and repeating them would only add load."};
inline constexpr MetricInfo kNoEndpoint{"sluice_upstream_no_endpoint_total",
                                        counter,
                                        {"upstream"},
                                        "Requests for which no endpoint could be picked."};
inline constexpr MetricInfo kCircuitBreakerRefused{
    "sluice_upstream_circuit_breaker_refused_total",
    counter,
    {"upstream"},
    "Requests and connections refused with 503 (or closed) because a bound of circuit_breakers was "
    "reached: requests; or connections or endpoint_connections, with pending full or nothing free "
    "within queue_timeout. sluice_upstream_circuit_breaker_open says which."};
inline constexpr MetricInfo kPanics{
    "sluice_upstream_panic_picks_total",
    counter,
    {"upstream"},
    "Picks while fewer endpoints were available than panic_threshold, or none: all are used then, "
    "unhealthy and ejected ones too. 0: the answer came from an endpoint that was thought well."};
inline constexpr MetricInfo kUpstreamParseErrors{
    "sluice_upstream_parse_errors_total",
    counter,
    {"upstream", "reason"},
    "Answers refused as malformed, by reason; reasons that never came are left out."};

// --- endpoints -----------------------------------------------------------------------------------

inline constexpr MetricInfo kUpstreamRequests{
    "sluice_upstream_requests_total",
    counter,
    {"upstream", "endpoint", "code"},
    "Tries that have ended, by the class of the endpoint's status (none: no usable answer)."};
inline constexpr MetricInfo kUpstreamRequestsActive{
    "sluice_upstream_requests_active", gauge, {"upstream", "endpoint"}, "Tries under way."};
inline constexpr MetricInfo kUpstreamConnections{"sluice_upstream_connections_total",
                                                 counter,
                                                 {"upstream", "endpoint"},
                                                 "Connections made to the endpoint."};
inline constexpr MetricInfo kUpstreamConnectionsActive{
    "sluice_upstream_connections_active",
    gauge,
    {"upstream", "endpoint"},
    "Connections to the endpoint that are open or being opened, in use or pooled."};
inline constexpr MetricInfo kUpstreamConnectionsReused{"sluice_upstream_connections_reused_total",
                                                       counter,
                                                       {"upstream", "endpoint"},
                                                       "Requests sent on a pooled connection."};
inline constexpr MetricInfo kUpstreamStale{
    "sluice_upstream_stale_connections_total",
    counter,
    {"upstream", "endpoint"},
    "Pooled connections that the endpoint had closed when a request came to use them; the request "
    "went to a new one."};
inline constexpr MetricInfo kConnectFailures{
    "sluice_upstream_connect_failures_total",
    counter,
    {"upstream", "endpoint", "reason"},
    "Connections that could not be made. refused, timed_out, unreachable and tls are the "
    "endpoint's, the other reasons this node's; all but the first three are left out until they "
    "come."};
inline constexpr MetricInfo kUpstreamTlsFailures{
    "sluice_upstream_tls_failures_total",
    counter,
    {"upstream", "endpoint"},
    "Connections that could not be made because of TLS: the endpoint's certificate, mostly."};
inline constexpr MetricInfo kUpstreamFailures{
    "sluice_upstream_responses_failed_total",
    counter,
    {"upstream", "endpoint", "reason"},
    "Tries that were sent and got no whole answer: reset (closed before a byte of it), timeout "
    "(first_byte, per_try_timeout), malformed, cut_short (closed within it), stalled (within it)."};
inline constexpr MetricInfo kUpstreamSent{"sluice_upstream_sent_bytes_total",
                                          counter,
                                          {"upstream", "endpoint"},
                                          "Bytes sent to the endpoint."};
inline constexpr MetricInfo kUpstreamReceived{"sluice_upstream_received_bytes_total",
                                              counter,
                                              {"upstream", "endpoint"},
                                              "Bytes received from the endpoint."};
inline constexpr MetricInfo kEjections{
    "sluice_upstream_ejections_total",
    counter,
    {"upstream", "endpoint"},
    "Times that outlier detection took the endpoint out of use for a while. Where "
    "max_ejection_percent of the upstream's endpoints are out already, a bad one stays in use, and "
    "nothing is counted."};
inline constexpr MetricInfo kEndpointState{
    "sluice_upstream_endpoint_state",
    gauge,
    {"upstream", "endpoint", "state"},
    "1 for the state that the endpoint is in: healthy, unhealthy (active check), ejected (outlier "
    "detection) or drained (by an operator)."};
inline constexpr MetricInfo kConnectDuration{"sluice_upstream_connect_duration_seconds",
                                             histogram,
                                             {"upstream", "endpoint"},
                                             "Time to connect to the endpoint."};
inline constexpr MetricInfo kFirstByteDuration{
    "sluice_upstream_first_byte_duration_seconds",
    histogram,
    {"upstream", "endpoint"},
    "From a request's being sent to the first byte of the endpoint's answer: the origin's time "
    "and one round trip."};
inline constexpr MetricInfo kRoundTrip{
    "sluice_upstream_tcp_round_trip_seconds",
    histogram,
    {"upstream", "endpoint"},
    "The kernel's smoothed round-trip time of connections to the endpoint (TCP_INFO), sampled: at "
    "a connection's first request and each 16th; of a relayed connection (protocol: tcp) at its "
    "end."};
inline constexpr MetricInfo kOriginDuration{
    "sluice_upstream_origin_duration_seconds",
    histogram,
    {"upstream", "endpoint"},
    "First byte less one round trip, for the same sample of requests: what the origin itself took. "
    "High here and not in the round trip: a slow origin; the other way round: a slow network."};
inline constexpr MetricInfo kRetransmits{
    "sluice_upstream_tcp_retransmits_total",
    counter,
    {"upstream", "endpoint"},
    "Segments sent again on connections to the endpoint (TCP_INFO), as far as they were sampled."};

// --- limits --------------------------------------------------------------------------------------

inline constexpr MetricInfo kLimitVerdicts{
    "sluice_limit_verdicts_total",
    counter,
    {"limit", "verdict"},
    "Requests and connections that a limit judged, by its verdict (counted: it was exceeded and "
    "only counts)."};
inline constexpr MetricInfo kBansRequested{
    "sluice_bans_requested_total",
    counter,
    {"limit"},
    "Sources that the gateway asked to be banned, by the limit that they broke."};
inline constexpr MetricInfo kBansAudited{
    "sluice_bans_audited_total",
    counter,
    {"limit"},
    "Bans that rules with mode: audit only logged, by the limit that was broken."};

inline constexpr MetricInfo kAuthVerdicts{
    "sluice_auth_verdicts_total",
    counter,
    {"auth", "verdict"},
    "Requests that an entry of auth judged (error: keys or service did not answer)."};

// All of the above, for the reference page.
inline constexpr const MetricInfo* kCatalogue[] = {
    &kBuildInfo,
    &kWorkers,
    &kReloads,
    &kLastReloadSuccessful,
    &kLastReloadTime,
    &kPolicyGeneration,
    &kAccessLogLines,
    &kAccessLogDropped,
    &kSpansExported,
    &kSpansDropped,
    &kConnections,
    &kConnectionsActive,
    &kConnectionsRefused,
    &kAcceptPauses,
    &kClientReceived,
    &kClientSent,
    &kRequestsActive,
    &kParseErrors,
    &kHttp2Abuse,
    &kAccessDenied,
    &kAuthorityChecks,
    &kEventBans,
    &kEventBansAudited,
    &kOverloadRefused,
    &kProxyProtocolRefused,
    &kTlsHandshakes,
    &kTlsHandshakeFailures,
    &kRequests,
    &kRequestDuration,
    &kGrpcRequests,
    &kMirrored,
    &kRetries,
    &kRetriesRefused,
    &kNoEndpoint,
    &kCircuitBreakerRefused,
    &kPanics,
    &kUpstreamParseErrors,
    &kUpstreamRequests,
    &kUpstreamRequestsActive,
    &kUpstreamConnections,
    &kUpstreamConnectionsActive,
    &kUpstreamConnectionsReused,
    &kUpstreamStale,
    &kConnectFailures,
    &kUpstreamTlsFailures,
    &kUpstreamFailures,
    &kUpstreamSent,
    &kUpstreamReceived,
    &kEjections,
    &kEndpointState,
    &kConnectDuration,
    &kFirstByteDuration,
    &kRoundTrip,
    &kOriginDuration,
    &kRetransmits,
    &kLimitVerdicts,
    &kBansRequested,
    &kBansAudited,
    &kAuthVerdicts,
};

}  // namespace metric
}  // namespace sluice::gateway
