#include "gateway/metrics_counters.h"

namespace sluice::gateway {

namespace {

template <typename... Counters>
void reset_each(Counters&... counters) {
  (counters.reset(), ...);
}

template <typename Array>
void reset_all(Array& counters) {
  for (auto& counter : counters)
    counter.reset();
}

}  // namespace

void DurationHistogram::reset() {
  reset_all(buckets_);
  sum_ns_.reset();
}

void ListenerCounters::reset() {
  reset_all(opened);
  reset_all(closed);
  reset_all(parse_errors);
  reset_all(http2_abuse);
  reset_all(tls_handshakes);
  reset_all(tls_failures);
  reset_all(bans);
  reset_all(authority);
  reset_each(shed_connections, shed_memory, access_denied, proxy_headers_refused);
  reset_each(full_pauses, resource_pauses, bytes_in, bytes_out, requests_begun, requests_ended);
}

void RouteCounters::reset() {
  reset_all(requests);
  reset_all(mirrored);
  reset_all(calls);
  duration.reset();
}

void UpstreamCounters::reset() {
  reset_all(parse_errors);
  reset_each(retries, retries_refused, no_endpoint, connections_refused);
}

void EndpointCounters::reset() {
  reset_all(requests);
  reset_all(connect_failures);
  reset_all(failures);
  reset_each(requests_begun, requests_ended, connections_opened, tls_failures, connections_reused,
             connections_stale, bytes_sent, bytes_received, retransmits, connect,
             first_byte, round_trip, origin);
}

void AuthCounters::reset() {
  for (auto& result : results)
    result.reset();
}

void LimitCounters::reset() {
  reset_all(verdicts);
  bans.reset();
}

}  // namespace sluice::gateway
