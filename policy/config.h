// The typed form of the policy file. Filled by document.h, read by everybody; plain data, no
// behaviour. Durations are nanoseconds, sizes are bytes. `where` is the place in the policy that
// said so, for `explain`.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "policy/address.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

// --- protect -------------------------------------------------------------------------------------

struct ProtectFrom {
  Prefix cidr;
  std::vector<PortRange> to_ports;      // empty: all
  std::vector<std::string> interfaces;  // empty: all
  Location where;
};

struct Protect {
  std::vector<ProtectFrom> from;
  std::vector<std::uint16_t> host_ports{22};  // of the node's own addresses
};

// --- intercept -----------------------------------------------------------------------------------

struct Marks {
  std::uint32_t mark = 0x100000;  // `mask` must have at least two bits; `mark` is its lowest
  std::uint32_t mask = 0x300000;
  std::uint32_t table = 5177;
  std::uint32_t priority = 5177;
  Location where;
};

enum class OnExit { closed, bypass };

struct InterceptExcept {
  std::vector<Prefix> from;
  std::vector<Prefix> to;
};

// One entry of intercept.local, .forward or .output; fields that an entry's kind lacks stay empty.
struct Intercept {
  std::vector<Prefix> from;  // forward only; empty: any
  std::vector<Prefix> to;
  InterceptExcept except;
  std::vector<PortRange> ports;
  std::vector<std::string>
      cgroups;  // output only; empty: every process. Paths below the cgroup2 root
  std::string listener;
  OnExit on_exit = OnExit::closed;  // output: bypass
  Duration lease = 3s;
  bool take_over = false;
  Location where;
};

struct InterceptConfig {
  Marks marks;
  std::vector<Intercept> local;
  std::vector<Intercept> forward;
  std::vector<Intercept> output;
};

// --- listeners -----------------------------------------------------------------------------------

enum class ListenerProtocol { http, tcp, automatic };

struct ListenerTimeouts {
  Duration detect =
      200ms;            // `auto`: a client silent for so long speaks a server-first protocol: tcp
  Duration head = 10s;  // whole request head
  Duration body_idle = 30s;  // between two reads of a body
  Duration idle = 60s;       // keep-alive, no request; tcp: no byte either way
  Duration drain = 30s;      // open connections may finish for so long after a stop
};

struct Listener {
  std::string name;
  std::optional<SocketAddress> bind;  // none: steered traffic only
  ListenerProtocol protocol = ListenerProtocol::http;
  std::uint32_t max_connections = 20000;
  ListenerTimeouts timeouts;
  Location where;
};

// --- upstreams -----------------------------------------------------------------------------------

struct Endpoint {
  SocketAddress address;
  std::uint32_t weight = 1;  // 1 to 1000
  Location where;
};

enum class SourceAddress { gateway, client };
enum class LbPolicy { round_robin, least_request, random };

struct HealthCheck {
  std::string http_path;  // empty: a TCP connect
  Duration interval = 2s;
  Duration timeout = 1s;
  std::uint32_t unhealthy_threshold = 3;
  std::uint32_t healthy_threshold = 2;
};

struct OutlierDetection {
  std::uint32_t consecutive_5xx = 5;               // 0: off
  std::uint32_t consecutive_connect_failures = 2;  // 0: off
  Duration base_ejection_time = 30s;
  std::uint32_t max_ejection_percent = 50;
};

struct UpstreamTimeouts {
  Duration connect = 1s;
  Duration first_byte = 30s;
  Duration idle = 60s;  // pooled, unused
};

enum RetryOn : std::uint32_t {
  kRetryConnectFailure = 1,
  kRetryReset = 2,  // the connection ended before a byte of the answer
  kRetry502 = 4,
  kRetry503 = 8,
  kRetry504 = 16,
};

struct Retry {
  std::uint32_t retry_on = kRetryConnectFailure | kRetryReset;  // RetryOn flags
  std::uint32_t attempts = 2;         // further tries after the first; 0: none
  std::uint32_t budget_percent = 20;  // of active requests, at least 3 at a time
};

struct Upstream {
  std::string name;
  bool original_destination =
      false;  // then no endpoints: each request goes where the client wanted
  std::vector<Endpoint> endpoints;
  SourceAddress source_address = SourceAddress::gateway;
  LbPolicy lb_policy = LbPolicy::round_robin;
  std::optional<HealthCheck> health_check;
  OutlierDetection outlier_detection;
  UpstreamTimeouts timeouts;
  Retry retry;
  std::uint32_t max_connections = 1024;  // circuit_breakers.connections, per node
  Location where;
};

// --- routes --------------------------------------------------------------------------------------

struct PathMatch {
  enum class Kind { any, prefix, exact };
  Kind kind = Kind::any;
  std::string value;  // prefix: matches whole segments, as the Gateway API's PathPrefix
};

struct WeightedUpstream {
  std::string name;
  std::uint32_t weight = 1;
};

struct Route {
  std::string name;  // given, or "listener host path", unique
  std::string listener;
  std::string host;  // lower case; "" any; "*.example.com" one or more labels
  PathMatch path;
  std::vector<WeightedUpstream> upstreams;
  std::vector<std::string> limits;
  Duration timeout = 0s;  // whole request; 0: none
  Location where;
};

// What a caught connection gets that no route claims: an HTTP status, or an upstream by name.
using DefaultAction = std::variant<int, std::string>;

struct DefaultRoute {
  DefaultAction local = 404;
  DefaultAction forward =
      502;  // document.cc makes it an original_destination upstream unless told otherwise
  DefaultAction output = 502;
  Location where;
};

// --- limits and bans -----------------------------------------------------------------------------

enum class LimitKey { client_ip, route };

struct Limit {
  std::string name;
  std::vector<LimitKey> key{LimitKey::client_ip};
  std::uint64_t rate_count = 0;  // `rate: 100/s`: 100 per 1 s
  Duration rate_period = 1s;
  std::uint64_t burst = 0;  // left out in the file: the rate's count
  std::uint8_t ipv6_prefix = 64;
  Location where;
};

enum class BanMode { enforce, audit };

struct BanRule {
  std::string limit;  // when: { limit, count, within }
  std::uint32_t count = 50;
  Duration within = 10s;
  Duration duration = 5min;  // for
  double grow = 1.0;         // each further ban of the same source lasts so many times longer …
  Duration up_to = 24h;      // … but never longer than this
  BanMode mode = BanMode::enforce;
  Location where;
};

struct BansConfig {
  std::uint32_t max = 100000;
  std::vector<BanRule> rules;
};

// --- guard ---------------------------------------------------------------------------------------

enum class GuardAction { drop, count };
enum class GuardAttach { tc };

struct GuardMatch {
  std::vector<Prefix> from;
  std::vector<Prefix> to;
  std::vector<PortRange> from_ports;
  std::vector<PortRange> to_ports;
};

struct GuardRule {
  std::string name;  // given, or made from the rule's place; unique
  GuardMatch match;
  GuardMatch except;
  std::optional<std::uint8_t> protocol;  // IANA number
  GuardAction action = GuardAction::drop;
  Location where;
};

struct GuardConfig {
  std::vector<std::string> interfaces;  // empty: auto (those with a default route); names and globs
  GuardAttach attach = GuardAttach::tc;
  bool first = true;  // position
  std::vector<GuardRule> rules;
};

// --- the whole -----------------------------------------------------------------------------------

struct MetricsConfig {
  SocketAddress bind;
  std::vector<Prefix> allow;  // empty: everyone who can reach the address
};

struct AccessLogConfig {
  enum class Format { json, text, none };
  Format format = Format::json;
  std::string path;  // "" or "stderr": standard error; "stdout"; else a file, appended
};

struct Config {
  std::string state_dir = "/var/lib/sluice";
  std::uint32_t workers = 0;  // 0: auto
  Protect protect;
  std::optional<MetricsConfig> metrics;
  AccessLogConfig access_log;
  InterceptConfig intercept;
  std::vector<Listener> listeners;
  std::vector<Upstream> upstreams;
  std::vector<Route> routes;
  DefaultRoute default_route;
  std::vector<Limit> limits;
  BansConfig bans;
  std::optional<GuardConfig> guard;

  // True when a keeper is needed: something is intercepted, guarded, or banned in the kernel.
  bool needs_kernel() const;
};

}  // namespace sluice::policy
