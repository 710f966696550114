#include "gateway/metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <map>
#include <prometheus/collectable.h>
#include <prometheus/text_serializer.h>
#include <sstream>
#include <utility>

#include "gateway/http2/flood.h"
#include "gateway/metrics_page.h"
#include "gateway/metrics_slots.h"
#include "gateway/tls/failure.h"
#include "policy/schema.h"

namespace sluice::gateway {

static_assert(kTlsFailures == tls::kFailures);

namespace {

constexpr std::array<std::string_view, kWays> kWayNames{"bind", "local", "forward", "output"};
constexpr std::array<std::string_view, kLimitOutcomes> kOutcomeNames{"allowed", "rejected",
                                                                     "delayed", "counted"};
static_assert(kBanEvents == policy::kBanEventWords.size());
constexpr std::array<std::string_view, kStatusClasses> kStatusNames{"none", "1xx", "2xx",
                                                                    "3xx",  "4xx", "5xx"};
constexpr std::array<std::pair<EndpointState, std::string_view>, 3> kStateNames{
    {{EndpointState::healthy, "healthy"},
     {EndpointState::unhealthy, "unhealthy"},
     {EndpointState::ejected, "ejected"}}};

// Endpoint states have one value for all workers, unlike counters.
struct EndpointStateCell {
  std::atomic<EndpointState> state{EndpointState::unknown};
  void reset() { state.store(EndpointState::unknown, std::memory_order_relaxed); }
};

// Counters of several workers are not read at one instant.
double still_open(std::uint64_t opened, std::uint64_t closed) {
  return opened > closed ? static_cast<double>(opened - closed) : 0;
}

constexpr std::string_view kNoRoute = "(none)";

}  // namespace

struct Metrics::State final : prometheus::Collectable {
  explicit State(MetricsOptions given) : options(std::move(given)) {
    for (std::uint32_t i = 0; i < options.workers; ++i) {
      workers.push_back(std::make_unique<WorkerMetrics>());
    }
  }

  std::vector<prometheus::MetricFamily> Collect() const override;

  template <typename Slot, typename Table>
  auto sum(Slot slot, Table table, auto field) const {
    std::uint64_t total = 0;
    for (const auto& worker : workers)
      total += field(table(*worker).at(slot)).get();
    return total;
  }

  void collect_global(MetricsPage& page) const;
  void collect_listeners(MetricsPage& page) const;
  void collect_tls(MetricsPage& page, ListenerSlot slot, const std::string& listener) const;
  void collect_routes(MetricsPage& page) const;
  void collect_upstreams(MetricsPage& page) const;
  void collect_endpoints(MetricsPage& page) const;
  void collect_limits(MetricsPage& page) const;
  void collect_auths(MetricsPage& page) const;

  bool reserve();
  void abandon();
  void free_unused();
  std::uint64_t oldest_alive();

  MetricsOptions options;
  std::vector<std::unique_ptr<WorkerMetrics>> workers;
  SlotDirectory listeners, routes, upstreams, endpoints, limits, auths;
  CounterTable<EndpointStateCell, EndpointSlot> endpoint_states;
  // Generations that may still be written under, oldest first.
  std::vector<std::pair<std::uint64_t, std::weak_ptr<const MetricSlots>>> generations;
  std::vector<std::function<std::vector<MetricSample>()>> sources;
  std::map<std::string, std::uint64_t> policy_generations;
  std::uint64_t reloads_done = 0;
  std::uint64_t reloads_refused = 0;
  bool last_reload_successful = true;
  double last_reload_time = 0;
};

bool Metrics::State::reserve() {
  for (const auto& worker : workers) {
    if (!worker->listeners_.reserve(listeners.size()) || !worker->routes_.reserve(routes.size()) ||
        !worker->upstreams_.reserve(upstreams.size()) ||
        !worker->endpoints_.reserve(endpoints.size()) || !worker->limits_.reserve(limits.size()) ||
        !worker->auths_.reserve(auths.size())) {
      return false;
    }
  }
  return endpoint_states.reserve(endpoints.size());
}

void Metrics::State::abandon() {
  for (SlotDirectory* d : {&listeners, &routes, &upstreams, &endpoints, &limits, &auths})
    d->abandon();
}

std::uint64_t Metrics::State::oldest_alive() {
  std::erase_if(generations, [](const auto& entry) { return entry.second.expired(); });
  return generations.empty() ? listeners.generation() : generations.front().first;
}

// The directories publish together, so one generation number serves all.
void Metrics::State::free_unused() {
  const std::uint64_t oldest = oldest_alive();
  const auto reset = [this, oldest](SlotDirectory& directory, auto slot, auto table) {
    for (const std::uint32_t freed : directory.collect(oldest)) {
      for (const auto& worker : workers)
        table(*worker).at(decltype(slot){freed}).reset();
    }
  };
  reset(listeners, ListenerSlot{}, [](WorkerMetrics& w) -> auto& { return w.listeners_; });
  reset(routes, RouteSlot{}, [](WorkerMetrics& w) -> auto& { return w.routes_; });
  reset(upstreams, UpstreamSlot{}, [](WorkerMetrics& w) -> auto& { return w.upstreams_; });
  reset(limits, LimitSlot{}, [](WorkerMetrics& w) -> auto& { return w.limits_; });
  reset(auths, AuthSlot{}, [](WorkerMetrics& w) -> auto& { return w.auths_; });
  for (const std::uint32_t freed : endpoints.collect(oldest)) {
    for (const auto& worker : workers)
      worker->endpoints_.at(EndpointSlot{freed}).reset();
    endpoint_states.at(EndpointSlot{freed}).reset();
  }
}

Metrics::Metrics(MetricsOptions options) : state_(std::make_unique<State>(std::move(options))) {}
Metrics::~Metrics() = default;

WorkerMetrics& Metrics::worker(std::uint32_t index) {
  return *state_->workers.at(index);
}

std::shared_ptr<const MetricSlots> Metrics::begin_generation(const MetricsLayout& layout) {
  State& s = *state_;
  s.free_unused();
  auto slots = std::make_shared<MetricSlots>();
  for (const std::string& name : layout.listeners) {
    slots->listeners.push_back(ListenerSlot{s.listeners.take({name})});
    slots->default_routes.push_back(RouteSlot{s.routes.take({name, std::string(kNoRoute)})});
  }
  for (const auto& route : layout.routes) {
    slots->routes.push_back(
        RouteSlot{s.routes.take({layout.listeners.at(route.listener), route.name})});
  }
  for (const auto& upstream : layout.upstreams) {
    slots->upstreams.push_back(UpstreamSlot{s.upstreams.take({upstream.name})});
    auto& endpoints = slots->endpoints.emplace_back();
    for (const std::string& endpoint : upstream.endpoints) {
      endpoints.push_back(EndpointSlot{s.endpoints.take({upstream.name, endpoint})});
    }
  }
  for (const std::string& name : layout.limits) {
    slots->limits.push_back(LimitSlot{s.limits.take({name})});
  }
  for (const std::string& name : layout.auths)
    slots->auths.push_back(AuthSlot{s.auths.take({name})});
  if (!s.reserve()) {
    s.abandon();
    return nullptr;
  }
  for (SlotDirectory* d : {&s.listeners, &s.routes, &s.upstreams, &s.endpoints, &s.limits,
                           &s.auths}) {
    d->publish();
  }
  s.generations.emplace_back(s.listeners.generation(), slots);
  return slots;
}

void Metrics::set_endpoint_state(EndpointSlot endpoint, EndpointState state) {
  state_->endpoint_states.at(endpoint).state.store(state, std::memory_order_relaxed);
}

void Metrics::reload_ended(bool successful) {
  ++(successful ? state_->reloads_done : state_->reloads_refused);
  state_->last_reload_successful = successful;
  if (successful) state_->last_reload_time = static_cast<double>(std::time(nullptr));
}

void Metrics::set_policy_generation(const std::string& layer, std::uint64_t generation) {
  state_->policy_generations[layer] = generation;
}

void Metrics::add_source(std::function<std::vector<MetricSample>()> source) {
  state_->sources.push_back(std::move(source));
}

std::string Metrics::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, state_->Collect());
  return std::move(out).str();
}

std::vector<prometheus::MetricFamily> Metrics::State::Collect() const {
  MetricsPage page;
  collect_global(page);
  collect_listeners(page);
  collect_routes(page);
  collect_upstreams(page);
  collect_endpoints(page);
  collect_limits(page);
  collect_auths(page);
  for (const auto& source : sources) {
    for (const MetricSample& sample : source())
      page.sample(sample);
  }
  return page.take();
}

void Metrics::State::collect_global(MetricsPage& page) const {
  page.gauge("sluice_build_info", "Always 1; the version that runs.", {{"version", SLUICE_VERSION}},
             1);
  page.gauge("sluice_workers", "Threads that serve connections.", {},
             static_cast<double>(workers.size()));
  constexpr std::string_view kReloads = "sluice_reloads_total";
  constexpr std::string_view kReloadsHelp = "Policies given to the running process, by outcome.";
  page.counter(kReloads, kReloadsHelp, {{"result", "applied"}}, reloads_done);
  page.counter(kReloads, kReloadsHelp, {{"result", "refused"}}, reloads_refused);
  page.gauge("sluice_config_last_reload_successful",
             "1 when the newest policy is in force, 0 when it was refused and an older one is.", {},
             last_reload_successful ? 1 : 0);
  page.gauge("sluice_config_last_reload_success_timestamp_seconds",
             "When a policy was last put in force by a reload, in Unix time; 0: never.", {},
             last_reload_time);
  for (const auto& [layer, generation] : policy_generations) {
    page.gauge(
        "sluice_policy_generation",
        "Generation of the policy in force, by layer; layers that differ for long are out of "
        "step.",
        {{"layer", layer}}, static_cast<double>(generation));
  }
}

void Metrics::State::collect_listeners(MetricsPage& page) const {
  const auto table = [](WorkerMetrics& w) -> auto& { return w.listeners_; };
  for (const auto& [key, index] : listeners.shown()) {
    const ListenerSlot slot{index};
    const std::string& name = key[0];
    for (std::size_t way = 0; way < kWays; ++way) {
      // Closed first: a connection that opens and ends in between must not make the gauge negative.
      const auto closed = sum(slot, table, [way](auto& c) -> auto& { return c.closed[way]; });
      const auto opened = sum(slot, table, [way](auto& c) -> auto& { return c.opened[way]; });
      page.counter("sluice_connections_total", "Client connections accepted, by way in.",
                   {{"listener", name}, {"way", kWayNames[way]}}, opened);
      page.gauge("sluice_connections_active", "Client connections that are open, by way in.",
                 {{"listener", name}, {"way", kWayNames[way]}}, still_open(opened, closed));
    }
    page.counter(
        "sluice_connections_refused_total",
        "Client connections closed at once because the listener's max_connections were open.",
        {{"listener", name}}, sum(slot, table, [](auto& c) -> auto& { return c.refused; }));
    page.counter("sluice_accept_pauses_total",
                 "Times that accepting stopped for want of descriptors or memory.",
                 {{"listener", name}},
                 sum(slot, table, [](auto& c) -> auto& { return c.accept_pauses; }));
    page.counter("sluice_access_denied_total",
                 "Connections and requests that an access rule refused.", {{"listener", name}},
                 sum(slot, table, [](auto& c) -> auto& { return c.access_denied; }));
    for (std::size_t i = 0; i < kBanEvents; ++i) {
      const auto bans = sum(slot, table, [i](auto& c) -> auto& { return c.bans[i]; });
      page.counter("sluice_event_bans_total",
                   "Bans that the gateway asked for because of an event, by event.",
                   {{"listener", name}, {"event", policy::kBanEventWords[i]}}, bans);
    }
    constexpr std::string_view kShed = "sluice_overload_refused_total";
    constexpr std::string_view kShedHelp =
        "Requests refused with 503 because connections or memory were short.";
    page.counter(kShed, kShedHelp, {{"listener", name}, {"reason", "connections"}},
                 sum(slot, table, [](auto& c) -> auto& { return c.shed_connections; }));
    page.counter(kShed, kShedHelp, {{"listener", name}, {"reason", "memory"}},
                 sum(slot, table, [](auto& c) -> auto& { return c.shed_memory; }));
    page.counter("sluice_client_received_bytes_total", "Bytes received from clients.",
                 {{"listener", name}},
                 sum(slot, table, [](auto& c) -> auto& { return c.bytes_in; }));
    page.counter("sluice_client_sent_bytes_total", "Bytes sent to clients.", {{"listener", name}},
                 sum(slot, table, [](auto& c) -> auto& { return c.bytes_out; }));
    const auto ended = sum(slot, table, [](auto& c) -> auto& { return c.requests_ended; });
    const auto begun = sum(slot, table, [](auto& c) -> auto& { return c.requests_begun; });
    page.gauge("sluice_requests_active", "Requests under way.", {{"listener", name}},
               still_open(begun, ended));
    for (std::size_t i = 0; i < kMaxReasons && i < options.parse_errors.size(); ++i) {
      const auto count = sum(slot, table, [i](auto& c) -> auto& { return c.parse_errors[i]; });
      if (count == 0) continue;  // dozens of reasons, most of which never happen
      page.counter("sluice_parse_errors_total", "Messages refused as malformed, by reason.",
                   {{"listener", name}, {"reason", options.parse_errors[i]}}, count);
    }
    for (std::size_t i = 0; i < kHttp2Abuses; ++i) {
      page.counter("sluice_http2_abuse_total",
                   "HTTP/2 connections ended with ENHANCE_YOUR_CALM, by what the client did.",
                   {{"listener", name}, {"kind", http2::name(http2::Abuse(i))}},
                   sum(slot, table, [i](auto& c) -> auto& { return c.http2_abuse[i]; }));
    }
    collect_tls(page, slot, name);
  }
}

// A listener without TLS or PROXY protocol has none of these.
void Metrics::State::collect_tls(MetricsPage& page, ListenerSlot slot,
                                 const std::string& listener) const {
  const auto table = [](WorkerMetrics & w) -> auto& {
    return w.listeners_;
  };
  const auto headers = sum(
      slot, table, [](auto& c) -> auto& { return c.proxy_headers_refused; });
  if (headers > 0)
    page.counter("sluice_proxy_protocol_refused_total",
                 "Connections of trusted proxies closed because of their PROXY protocol header.",
                 {{"listener", listener}}, headers);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto count = sum(
        slot, table, [i](auto& c) -> auto& { return c.tls_handshakes[i]; });
    if (count == 0) continue;
    page.counter("sluice_tls_handshakes_total", "TLS handshakes that clients have completed.",
                 {{"listener", listener},
                  {"version", (i & 2) != 0 ? "1.3" : "1.2"},
                  {"resumed", (i & 1) != 0 ? "true" : "false"}},
                 count);
  }
  for (std::size_t i = 0; i < kTlsFailures; ++i) {
    const auto count = sum(
        slot, table, [i](auto& c) -> auto& { return c.tls_failures[i]; });
    if (count == 0) continue;
    page.counter("sluice_tls_handshake_failures_total",
                 "TLS handshakes of clients that failed, by reason.",
                 {{"listener", listener}, {"reason", tls::name(tls::Failure(i))}}, count);
  }
}

void Metrics::State::collect_routes(MetricsPage& page) const {
  const auto table = [](WorkerMetrics& w) -> auto& { return w.routes_; };
  for (const auto& [key, index] : routes.shown()) {
    const RouteSlot slot{index};
    for (std::size_t i = 0; i < kStatusClasses; ++i) {
      page.counter("sluice_requests_total",
                   "Requests that have ended, by the class of the status that the client got "
                   "(none: it got no "
                   "answer). route \"(none)\": no route claimed it.",
                   {{"listener", key[0]}, {"route", key[1]}, {"code", kStatusNames[i]}},
                   sum(slot, table, [i](auto& c) -> auto& { return c.requests[i]; }));
    }
    const auto mirrored = sum(slot, table, [](auto& c) -> auto& { return c.mirrored; });
    const auto dropped = sum(slot, table, [](auto& c) -> auto& { return c.mirror_dropped; });
    if (mirrored + dropped > 0) {
      constexpr std::string_view kName = "sluice_mirrored_requests_total";
      constexpr std::string_view kHelp =
          "Copies of requests for a mirror; dropped: too large, too many, or it was not there.";
      page.counter(kName, kHelp,
                   {{"listener", key[0]}, {"route", key[1]}, {"result", "sent"}}, mirrored);
      page.counter(kName, kHelp,
                   {{"listener", key[0]}, {"route", key[1]}, {"result", "dropped"}}, dropped);
    }
    HistogramSum duration;
    for (const auto& worker : workers)
      duration.add(worker->routes_.at(slot).duration);
    page.histogram("sluice_request_duration_seconds",
                   "From the first byte of a request's head to the last of its answer.",
                   {{"listener", key[0]}, {"route", key[1]}}, duration);
  }
}

void Metrics::State::collect_upstreams(MetricsPage& page) const {
  const auto table = [](WorkerMetrics& w) -> auto& { return w.upstreams_; };
  for (const auto& [key, index] : upstreams.shown()) {
    const UpstreamSlot slot{index};
    page.counter("sluice_upstream_retries_total", "Requests sent again after a failed try.",
                 {{"upstream", key[0]}},
                 sum(slot, table, [](auto& c) -> auto& { return c.retries; }));
    page.counter("sluice_upstream_retries_refused_total",
                 "Tries that failed and were not repeated because the retry budget was used up.",
                 {{"upstream", key[0]}},
                 sum(slot, table, [](auto& c) -> auto& { return c.retries_refused; }));
    page.counter("sluice_upstream_no_endpoint_total",
                 "Requests for which no endpoint could be picked.", {{"upstream", key[0]}},
                 sum(slot, table, [](auto& c) -> auto& { return c.no_endpoint; }));
    page.counter("sluice_upstream_circuit_breaker_refused_total",
                 "Requests refused because the upstream's connections were all in use.",
                 {{"upstream", key[0]}},
                 sum(slot, table, [](auto& c) -> auto& { return c.connections_refused; }));
  }
}

void Metrics::State::collect_endpoints(MetricsPage& page) const {
  const auto table = [](WorkerMetrics& w) -> auto& { return w.endpoints_; };
  for (const auto& [key, index] : endpoints.shown()) {
    const EndpointSlot slot{index};
    const MetricsPage::Labels labels{{"upstream", key[0]}, {"endpoint", key[1]}};
    const auto count = [&](std::string_view name, std::string_view help, auto field) {
      page.counter(name, help, labels, sum(slot, table, field));
    };
    for (std::size_t i = 0; i < kStatusClasses; ++i) {
      page.counter("sluice_upstream_requests_total",
                   "Tries that have ended, by the class of the endpoint's status (none: no usable "
                   "answer).",
                   {{"upstream", key[0]}, {"endpoint", key[1]}, {"code", kStatusNames[i]}},
                   sum(slot, table, [i](auto& c) -> auto& { return c.requests[i]; }));
    }
    const auto ended = sum(slot, table, [](auto& c) -> auto& { return c.requests_ended; });
    const auto begun = sum(slot, table, [](auto& c) -> auto& { return c.requests_begun; });
    page.gauge("sluice_upstream_requests_active", "Tries under way.", labels,
               still_open(begun, ended));
    const auto closed = sum(slot, table, [](auto& c) -> auto& { return c.connections_closed; });
    const auto opened = sum(slot, table, [](auto& c) -> auto& { return c.connections_opened; });
    page.counter("sluice_upstream_connections_total", "Connections made to the endpoint.", labels,
                 opened);
    page.gauge("sluice_upstream_connections_active",
               "Connections to the endpoint that are open, in use or pooled.", labels,
               still_open(opened, closed));
    count("sluice_upstream_connections_reused_total", "Requests sent on a pooled connection.",
          [](auto& c) -> auto& { return c.connections_reused; });
    count(
        "sluice_upstream_connect_failures_total",
        "Connections that could not be made: refused, unreachable, timed out, TLS.",
        [](auto& c) -> auto& { return c.connect_failures; });
    count(
        "sluice_upstream_tls_failures_total",
        "Connections that could not be made because of TLS: the endpoint's certificate, mostly.",
        [](auto& c) -> auto& { return c.tls_failures; });
    count("sluice_upstream_sent_bytes_total", "Bytes sent to the endpoint.",
          [](auto& c) -> auto& { return c.bytes_sent; });
    count("sluice_upstream_received_bytes_total", "Bytes received from the endpoint.",
          [](auto& c) -> auto& { return c.bytes_received; });
    count("sluice_upstream_ejections_total", "Times that a worker took the endpoint out of use.",
          [](auto& c) -> auto& { return c.ejections; });
    HistogramSum connect;
    HistogramSum first_byte;
    for (const auto& worker : workers) {
      connect.add(worker->endpoints_.at(slot).connect);
      first_byte.add(worker->endpoints_.at(slot).first_byte);
    }
    page.histogram("sluice_upstream_connect_duration_seconds", "Time to connect to the endpoint.",
                   labels, connect);
    page.histogram("sluice_upstream_first_byte_duration_seconds",
                   "From a request's last byte sent to the first of the endpoint's answer.", labels,
                   first_byte);
    const EndpointState now = endpoint_states.at(slot).state.load(std::memory_order_relaxed);
    for (const auto& [state, name] : kStateNames) {
      page.gauge("sluice_upstream_endpoint_state",
                 "1 for the state that the endpoint is in; all 0: not known yet.",
                 {{"upstream", key[0]}, {"endpoint", key[1]}, {"state", name}},
                 state == now ? 1 : 0);
    }
  }
}

void Metrics::State::collect_limits(MetricsPage& page) const {
  const auto table = [](WorkerMetrics& w) -> auto& { return w.limits_; };
  for (const auto& [key, index] : limits.shown()) {
    const LimitSlot slot{index};
    constexpr std::string_view kVerdicts = "sluice_limit_verdicts_total";
    constexpr std::string_view kVerdictsHelp = "Requests and connections that a limit judged, by its verdict (counted: it was exceeded and only counts).";
    for (std::size_t i = 0; i < kLimitOutcomes; ++i) {
      page.counter(kVerdicts, kVerdictsHelp, {{"limit", key[0]}, {"verdict", kOutcomeNames[i]}},
                   sum(slot, table, [i](auto& c) -> auto& { return c.verdicts[i]; }));
    }
    page.counter("sluice_bans_requested_total",
                 "Sources that the gateway asked to be banned, by the limit that they broke.",
                 {{"limit", key[0]}}, sum(slot, table, [](auto& c) -> auto& { return c.bans; }));
  }
}

void Metrics::State::collect_auths(MetricsPage& page) const {
  const auto table = [](WorkerMetrics& w) -> auto& { return w.auths_; };
  constexpr std::array<std::string_view, 3> kResults{"allowed", "denied", "error"};
  for (const auto& [key, index] : auths.shown()) {
    const AuthSlot slot{index};
    for (std::size_t i = 0; i < kResults.size(); ++i) {
      page.counter("sluice_auth_verdicts_total",
                   "Requests that an entry of auth judged (error: keys or service did not answer).",
                   {{"auth", key[0]}, {"verdict", kResults[i]}},
                   sum(slot, table, [i](auto& c) -> auto& { return c.results[i]; }));
    }
  }
}

}  // namespace sluice::gateway
