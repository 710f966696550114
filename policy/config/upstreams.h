// The typed form of `upstreams`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/config/kubernetes.h"
#include "policy/config/tls.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class AddressFamily { any, ipv4, ipv6 };

// An address, or a name to be resolved while the gateway runs: exactly one of `address`, `dns`,
// `srv`, `kubernetes`.
struct Endpoint {
  SocketAddress address;                      // port 0 where it is a name
  std::string dns = {};                       // a host with A and AAAA records
  std::uint16_t port = 0;                     // of `dns`
  std::string srv = {};                       // a service with SRV records
  KubernetesService kubernetes = {};          // a Service with EndpointSlices
  AddressFamily family = AddressFamily::any;  // of what names resolve to
  std::uint32_t weight = 1;  // 1 to 1000
  std::uint32_t priority = 0;  // 0 to 15; lower ones first
  bool nowhere = false;        // none of them: refused
  Location where;

  bool is_name() const { return !dns.empty() || !srv.empty() || is_service(); }
  bool is_service() const { return !kubernetes.service.empty(); }
  // As in the policy: "10.0.0.1:80", "api.internal:80", "_http._tcp.api", "api.shop.svc:http".
  std::string text() const;
};

enum class SourceAddress { gateway, client };
enum class UpstreamProtocol { automatic, http1, http2 };
enum class LbPolicy { round_robin, least_request, random, peak_ewma, maglev };

// What Maglev looks up. Neither: the client's address, which is also used where a request lacks it.
struct HashOn {
  std::string header = {};  // lower case
  std::string cookie = {};
};

// Keeps a client at the endpoint that it got first, while that is available.
struct Sticky {
  std::string cookie = "sluice_endpoint";
  std::string key = {};  // of the signature: a text, or `file:PATH`
  Duration max_age{};    // 0: as long as the browser runs
};

// How names of endpoints are resolved.
struct Dns {
  std::vector<SocketAddress> resolvers;  // none: those of /etc/resolv.conf
  Duration min_ttl = 5s;                 // shorter TTLs count as this one
  Duration timeout = 1s;                 // for one question to one resolver
};

struct HealthCheck {
  std::string http_path;  // this and `grpc` empty: a TCP connect
  std::string grpc = {};  // a service's name, or `*` for the server as a whole
  Duration interval = 2s;
  Duration timeout = 1s;
  std::uint32_t unhealthy_threshold = 3;
  std::uint32_t healthy_threshold = 2;
};

// Against the mean of all endpoints, over an interval (Envoy: success rate).
struct SuccessRate {
  Duration interval = 10s;
  std::uint32_t minimum_hosts = 5;  // endpoints with enough requests, below which nothing is judged
  std::uint32_t request_volume = 100;  // an endpoint's requests in the interval that are enough
  double stdev_factor = 1.9;           // below mean − factor × standard deviation: ejected
};

struct OutlierDetection {
  std::uint32_t consecutive_5xx = 5;               // 0: off
  std::uint32_t consecutive_gateway_errors = 0;    // 0: off
  std::uint32_t consecutive_connect_failures = 2;  // 0: off
  Duration base_ejection_time = 30s;
  std::uint32_t max_ejection_percent = 50;
  std::optional<SuccessRate> success_rate = std::nullopt;
};

// Per node. What is over a bound is refused at once, but connections: those are waited for.
struct CircuitBreakers {
  std::uint32_t connections = 1024;
  std::uint32_t endpoint_connections = 0;  // to one endpoint; 0: no bound of its own
  std::uint32_t pending = 1024;            // requests that wait for a connection
  std::uint32_t requests = 0;              // under way; 0: no bound
  std::uint32_t retries = 0;               // under way; 0: only the budget's
};

struct UpstreamTimeouts {
  Duration connect = 1s;
  Duration first_byte = 30s;
  Duration body_idle = 5min;  // between two pieces of an answer; 0: without end
  Duration idle = 60s;  // pooled, unused
};

enum RetryOn : std::uint32_t {
  kRetryConnectFailure = 1,
  kRetryReset = 2,  // the connection ended before a byte of the answer
  kRetry502 = 4,
  kRetry503 = 8,
  kRetry504 = 16,
  kRetry429 = 32,
  kRetry500 = 64,
  // Of a call of gRPC: the status in a head that is all there is.
  kRetryCancelled = 128,
  kRetryDeadlineExceeded = 256,
  kRetryInternal = 512,
  kRetryResourceExhausted = 1024,
  kRetryUnavailable = 2048,
  kRetryGrpc = 4096 - 128,
};

struct Retry {
  std::uint32_t retry_on = kRetryConnectFailure | kRetryReset;  // RetryOn flags
  std::uint32_t attempts = 2;         // further tries after the first; 0: none
  std::uint32_t budget_percent = 20;  // of active requests, at least 3 at a time
  Duration per_try_timeout{};         // from the pick to the answer's head; 0: none
  Duration back_off = 25ms;           // doubled each time, of which a random share is waited
  Duration max_back_off = 250ms;
  Duration max_retry_after = 1s;  // an origin's Retry-After is waited for up to this; 0: never
};

struct Upstream {
  std::string name;
  bool original_destination =
      false;  // then no endpoints: each request goes where the client wanted
  std::vector<Endpoint> endpoints;
  UpstreamProtocol protocol = UpstreamProtocol::automatic;
  SourceAddress source_address = SourceAddress::gateway;
  Express express = Express::none;
  LbPolicy lb_policy = LbPolicy::round_robin;
  std::optional<HashOn> hash_on;
  std::optional<Sticky> sticky;
  Duration slow_start{};            // 0: none
  std::uint32_t panic_percent = 0;  // 0: only when nothing is available
  Duration queue_timeout = 1s;      // 0: refused at once
  Dns dns;
  ProxyProtocol send_proxy_protocol = ProxyProtocol::none;  // v1 or v2
  std::optional<UpstreamTls> tls;
  // Of an original destination without `tls`, where some listener has a certificate authority: its
  // twin with it, an index in Config::upstreams, for what was decrypted on its way.
  std::optional<std::uint32_t> over_tls;
  std::optional<HealthCheck> health_check;
  OutlierDetection outlier_detection;
  UpstreamTimeouts timeouts;
  Retry retry;
  CircuitBreakers circuit_breakers;
  Location where;
};

}  // namespace sluice::policy
