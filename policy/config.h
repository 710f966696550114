// The typed form of the policy file. Filled by document.h, read by everybody; plain data, no
// behaviour. Durations are nanoseconds, sizes are bytes. `where` is the place in the policy that
// said so, for `explain`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/ai.h"
#include "policy/config/auth.h"
#include "policy/config/cluster.h"
#include "policy/config/guard.h"
#include "policy/config/intercept.h"
#include "policy/config/kubernetes.h"
#include "policy/config/limits.h"
#include "policy/config/listeners.h"
#include "policy/config/observability.h"
#include "policy/config/overload.h"
#include "policy/config/protect.h"
#include "policy/config/routes.h"
#include "policy/config/sets.h"
#include "policy/config/upstreams.h"

namespace sluice::policy {

struct Config {
  std::string state_dir = "/var/lib/sluice";
  std::uint32_t workers = 0;  // 0: auto
  Protect protect;
  std::vector<SetConfig> sets;
  std::vector<Prefix> trusted_proxies;
  std::optional<AdminConfig> admin;
  std::optional<MetricsConfig> metrics;
  std::optional<TracingConfig> tracing;
  AccessLogConfig access_log;
  InterceptConfig intercept;
  std::vector<Listener> listeners;
  std::vector<Upstream> upstreams;
  std::vector<Auth> auth;
  std::optional<AiConfig> ai;
  Overload overload;
  std::vector<Route> routes;
  DefaultRoute default_route;
  std::optional<RedisConfig> redis;  // cluster.redis
  std::optional<KubernetesConfig> kubernetes;  // there where something asks for it
  std::vector<Limit> limits;
  BansConfig bans;
  std::optional<GuardConfig> guard;

  // True when a keeper is needed: something is intercepted, guarded, or banned in the kernel.
  bool needs_kernel() const;
};

}  // namespace sluice::policy
