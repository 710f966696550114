// The typed form of `upstreams`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct Endpoint {
  SocketAddress address;
  std::uint32_t weight = 1;  // 1 to 1000
  Location where;
};

enum class SourceAddress { gateway, client };
enum class UpstreamProtocol { automatic, http1, http2 };
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
  UpstreamProtocol protocol = UpstreamProtocol::automatic;
  SourceAddress source_address = SourceAddress::gateway;
  LbPolicy lb_policy = LbPolicy::round_robin;
  std::optional<HealthCheck> health_check;
  OutlierDetection outlier_detection;
  UpstreamTimeouts timeouts;
  Retry retry;
  std::uint32_t max_connections = 1024;  // circuit_breakers.connections, per node
  Location where;
};

}  // namespace sluice::policy
