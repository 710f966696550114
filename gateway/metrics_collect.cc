// The page: the sums of the workers' counters, one function for each kind of object.
#include <array>
#include <string_view>

#include "gateway/http2/flood.h"
#include "gateway/metrics_state.h"
#include "gateway/metrics_sum.h"
#include "gateway/tls/failure.h"
#include "policy/authority.h"
#include "policy/schema.h"

namespace sluice::gateway {

namespace {

constexpr std::array<std::string_view, kWays> kWayNames{"bind", "local", "forward", "output"};
constexpr std::array<std::string_view, kStatusClasses> kStatusNames{"none", "1xx", "2xx",
                                                                    "3xx",  "4xx", "5xx"};
constexpr std::array<std::string_view, kMirrorResults> kMirrorNames{
    "sent", "too_large", "too_many", "unavailable", "incomplete"};
constexpr std::array<std::string_view, kSpanDrops> kSpanDropNames{"full", "unsent", "rejected"};
constexpr std::array<std::string_view, kUpstreamFailures> kFailureNames{
    "reset", "timeout", "malformed", "cut_short", "stalled"};
constexpr std::array<std::string_view, kLimitOutcomes> kOutcomeNames{"allowed", "rejected",
                                                                     "delayed", "counted"};
static_assert(kBanEvents == policy::kBanEventWords.size());
static_assert(kTlsFailures == tls::kFailures);
// Of MetricsOptions::connect_errors: those that blame the endpoint are shown before they happen.
constexpr std::size_t kEndpointConnectErrors = 3;

// `ended` is read first, and counters of several workers are not read at one instant: a gauge must
// not come out negative.
double still_open(std::uint64_t ended, std::uint64_t begun) {
  return begun > ended ? static_cast<double>(begun - ended) : 0;
}

}  // namespace

std::vector<prometheus::MetricFamily> MetricsState::collect() const {
  MetricsPage page;
  collect_global(page);
  collect_listeners(page);
  collect_routes(page);
  collect_upstreams(page);
  collect_endpoints(page);
  collect_limits(page);
  collect_auths(page);
  for (const auto& collector : collectors)
    collector(page);
  for (const auto& source : sources) {
    for (const MetricSample& sample : source())
      page.sample(sample);
  }
  return page.take();
}

void MetricsState::collect_global(MetricsPage& page) const {
  page.gauge(metric::kBuildInfo, {SLUICE_VERSION}, 1);
  page.gauge(metric::kWorkers, {}, static_cast<double>(workers.size()));
  page.counter(metric::kReloads, {"applied"}, reloads_done);
  page.counter(metric::kReloads, {"refused"}, reloads_refused);
  page.gauge(metric::kLastReloadSuccessful, {}, last_reload_successful ? 1 : 0);
  page.gauge(metric::kLastReloadTime, {}, last_reload_time);
  const auto sum = [this](const auto& of) {
    std::uint64_t total = 0;
    for (const auto& worker : workers)
      total += of(*worker).get();
    return total;
  };
  page.counter(metric::kSpansExported, {},
               sum([](const WorkerMetrics& w) -> auto& { return w.spans_exported_; }));
  for (std::size_t i = 0; i < kSpanDrops; ++i)
    page.counter(metric::kSpansDropped, {kSpanDropNames[i]},
                 sum([i](const WorkerMetrics& w) -> auto& { return w.spans_dropped_[i]; }));
  for (const auto& [layer, generation] : policy_generations)
    page.gauge(metric::kPolicyGeneration, {layer}, static_cast<double>(generation));
}

void MetricsState::collect_listeners(MetricsPage& page) const {
  using C = ListenerCounters;
  for (const auto& [key, slot] : listeners.shown()) {
    const std::string& name = key[0];
    const CounterSum<C> sum(
        workers, ListenerSlot{slot}, [](auto& w) -> auto& { return w.listeners_; });
    for (std::size_t way = 0; way < kWays; ++way) {
      const std::uint64_t closed = sum(&C::closed, way);
      const std::uint64_t opened = sum(&C::opened, way);
      page.counter(metric::kConnections, {name, kWayNames[way]}, opened);
      page.gauge(metric::kConnectionsActive, {name, kWayNames[way]}, still_open(closed, opened));
    }
    page.counter(metric::kConnectionsRefused, {name}, sum(&C::full_pauses));
    page.counter(metric::kAcceptPauses, {name, "max_connections"}, sum(&C::full_pauses));
    page.counter(metric::kAcceptPauses, {name, "resources"}, sum(&C::resource_pauses));
    page.counter(metric::kAccessDenied, {name}, sum(&C::access_denied));
    for (std::size_t i = 0; i < kAuthorityResults; ++i) {
      if (const std::uint64_t count = sum(&C::authority, i); count > 0)
        page.counter(metric::kAuthorityChecks,
                     {name, policy::to_string(policy::AuthorityVerdict(i))}, count);
    }
    for (std::size_t i = 0; i < kBanEvents; ++i) {
      page.counter(metric::kEventBans, {name, policy::kBanEventWords[i]}, sum(&C::bans, i));
      page.counter(metric::kEventBansAudited, {name, policy::kBanEventWords[i]},
                   sum(&C::audited_bans, i));
    }
    page.counter(metric::kOverloadRefused, {name, "connections"}, sum(&C::shed_connections));
    page.counter(metric::kOverloadRefused, {name, "memory"}, sum(&C::shed_memory));
    page.counter(metric::kClientReceived, {name}, sum(&C::bytes_in));
    page.counter(metric::kClientSent, {name}, sum(&C::bytes_out));
    const std::uint64_t ended = sum(&C::requests_ended);
    page.gauge(metric::kRequestsActive, {name}, still_open(ended, sum(&C::requests_begun)));
    for (std::size_t i = 0; i < options.parse_errors.size() && i < kMaxReasons; ++i) {
      if (const std::uint64_t count = sum(&C::parse_errors, i); count > 0)
        page.counter(metric::kParseErrors, {name, options.parse_errors[i]}, count);
    }
    for (std::size_t i = 0; i < kHttp2Abuses; ++i)
      page.counter(metric::kHttp2Abuse, {name, http2::name(http2::Abuse(i))},
                   sum(&C::http2_abuse, i));
    collect_tls(page, name, sum);
  }
}

// A listener without TLS or PROXY protocol has none of these.
void MetricsState::collect_tls(MetricsPage& page, std::string_view listener,
                               const ListenerSum& sum) {
  using C = ListenerCounters;
  if (const std::uint64_t headers = sum(&C::proxy_headers_refused); headers > 0)
    page.counter(metric::kProxyProtocolRefused, {listener}, headers);
  for (std::size_t i = 0; i < 4; ++i) {
    if (const std::uint64_t count = sum(&C::tls_handshakes, i); count > 0)
      page.counter(metric::kTlsHandshakes,
                   {listener, (i & 2) != 0 ? "1.3" : "1.2", (i & 1) != 0 ? "true" : "false"},
                   count);
  }
  for (std::size_t i = 0; i < kTlsFailures; ++i) {
    if (const std::uint64_t count = sum(&C::tls_failures, i); count > 0)
      page.counter(metric::kTlsHandshakeFailures, {listener, tls::name(tls::Failure(i))}, count);
  }
}

void MetricsState::collect_routes(MetricsPage& page) const {
  using C = RouteCounters;
  for (const auto& [key, slot] : routes.shown()) {
    const CounterSum<C> sum(
        workers, RouteSlot{slot}, [](auto& w) -> auto& { return w.routes_; });
    for (std::size_t i = 0; i < kStatusClasses; ++i)
      page.counter(metric::kRequests, {key[0], key[1], kStatusNames[i]}, sum(&C::requests, i));
    for (std::size_t i = 0; i < kMirrorResults; ++i) {
      if (const std::uint64_t count = sum(&C::mirrored, i); count > 0)
        page.counter(metric::kMirrored, {key[0], key[1], kMirrorNames[i]}, count);
    }
    for (std::size_t i = 0; i < kGrpcStatuses; ++i) {
      const std::string status = i + 1 < kGrpcStatuses ? std::to_string(i) : "none";
      if (const std::uint64_t count = sum(&C::calls, i); count > 0)
        page.counter(metric::kGrpcRequests, {key[0], key[1], status}, count);
    }
    page.histogram(metric::kRequestDuration, {key[0], key[1]}, sum(&C::duration));
  }
}

void MetricsState::collect_upstreams(MetricsPage& page) const {
  using C = UpstreamCounters;
  for (const auto& [key, slot] : upstreams.shown()) {
    const std::string& name = key[0];
    const CounterSum<C> sum(
        workers, UpstreamSlot{slot}, [](auto& w) -> auto& { return w.upstreams_; });
    page.counter(metric::kRetries, {name}, sum(&C::retries));
    page.counter(metric::kRetriesRefused, {name}, sum(&C::retries_refused));
    page.counter(metric::kNoEndpoint, {name}, sum(&C::no_endpoint));
    page.counter(metric::kCircuitBreakerRefused, {name}, sum(&C::connections_refused));
    for (std::size_t i = 0; i < options.parse_errors.size() && i < kMaxReasons; ++i) {
      if (const std::uint64_t count = sum(&C::parse_errors, i); count > 0)
        page.counter(metric::kUpstreamParseErrors, {name, options.parse_errors[i]}, count);
    }
  }
}

void MetricsState::collect_endpoints(MetricsPage& page) const {
  for (const auto& [key, slot] : endpoints.shown()) {
    const EndpointSum sum(
        workers, EndpointSlot{slot}, [](auto& w) -> auto& { return w.endpoints_; });
    collect_endpoint_outcomes(page, key[0], key[1], sum);
    collect_endpoint_totals(page, key[0], key[1], sum);
  }
}

// What became of tries, by status and by reason.
void MetricsState::collect_endpoint_outcomes(MetricsPage& page, std::string_view upstream,
                                             std::string_view endpoint,
                                             const EndpointSum& sum) const {
  using C = EndpointCounters;
  for (std::size_t i = 0; i < kStatusClasses; ++i)
    page.counter(metric::kUpstreamRequests, {upstream, endpoint, kStatusNames[i]},
                 sum(&C::requests, i));
  for (std::size_t i = 0; i < kUpstreamFailures; ++i)
    page.counter(metric::kUpstreamFailures, {upstream, endpoint, kFailureNames[i]},
                 sum(&C::failures, i));
  for (std::size_t i = 0; i < options.connect_errors.size() && i < kMaxConnectErrors; ++i) {
    const std::uint64_t count = sum(&C::connect_failures, i);
    if (count == 0 && i >= kEndpointConnectErrors) continue;
    page.counter(metric::kConnectFailures, {upstream, endpoint, options.connect_errors[i]}, count);
  }
}

void MetricsState::collect_endpoint_totals(MetricsPage& page, std::string_view upstream,
                                           std::string_view endpoint, const EndpointSum& sum) {
  using C = EndpointCounters;
  static constexpr std::pair<const MetricInfo*, SingleWriterCounter C::*> kCounters[] = {
      {&metric::kUpstreamConnections, &C::connections_opened},
      {&metric::kUpstreamConnectionsReused, &C::connections_reused},
      {&metric::kUpstreamStale, &C::connections_stale},
      {&metric::kUpstreamTlsFailures, &C::tls_failures},
      {&metric::kUpstreamSent, &C::bytes_sent},
      {&metric::kUpstreamReceived, &C::bytes_received},
      {&metric::kRetransmits, &C::retransmits},
  };
  static constexpr std::pair<const MetricInfo*, DurationHistogram C::*> kHistograms[] = {
      {&metric::kConnectDuration, &C::connect},
      {&metric::kFirstByteDuration, &C::first_byte},
      {&metric::kRoundTrip, &C::round_trip},
      {&metric::kOriginDuration, &C::origin},
  };
  const std::uint64_t ended = sum(&C::requests_ended);
  page.gauge(metric::kUpstreamRequestsActive, {upstream, endpoint},
             still_open(ended, sum(&C::requests_begun)));
  for (const auto& [info, field] : kCounters)
    page.counter(*info, {upstream, endpoint}, sum(field));
  for (const auto& [info, field] : kHistograms)
    page.histogram(*info, {upstream, endpoint}, sum(field));
}

void MetricsState::collect_limits(MetricsPage& page) const {
  using C = LimitCounters;
  for (const auto& [key, slot] : limits.shown()) {
    const CounterSum<C> sum(
        workers, LimitSlot{slot}, [](auto& w) -> auto& { return w.limits_; });
    for (std::size_t i = 0; i < kLimitOutcomes; ++i)
      page.counter(metric::kLimitVerdicts, {key[0], kOutcomeNames[i]}, sum(&C::verdicts, i));
    page.counter(metric::kBansRequested, {key[0]}, sum(&C::bans));
    page.counter(metric::kBansAudited, {key[0]}, sum(&C::audited_bans));
  }
}

void MetricsState::collect_auths(MetricsPage& page) const {
  using C = AuthCounters;
  constexpr std::array<std::string_view, 3> kResults{"allowed", "denied", "error"};
  for (const auto& [key, slot] : auths.shown()) {
    const CounterSum<C> sum(
        workers, AuthSlot{slot}, [](auto& w) -> auto& { return w.auths_; });
    for (std::size_t i = 0; i < kResults.size(); ++i)
      page.counter(metric::kAuthVerdicts, {key[0], kResults[i]}, sum(&C::results, i));
  }
}

}  // namespace sluice::gateway
