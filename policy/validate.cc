#include "policy/validate.h"

#include <algorithm>
#include <map>
#include <set>

#include "policy/nearest_name.h"
#include "policy/schema.h"

namespace sluice::policy {

namespace {

// A listener may be left out only where there is one.
void expect_listener(const Config& config, const std::string& name, const Location& where,
                     const std::string& by, Reporter& reporter) {
  if (!name.empty()) return;
  std::set<std::string_view> known;
  for (const Listener& listener : config.listeners)
    known.insert(listener.name);
  const std::vector<std::string_view> names(known.begin(), known.end());
  reporter.error(where, by + " needs `listener`",
                 names.empty() ? "the policy has no listeners" : suggestion("", names));
}

}  // namespace

void check_listeners_named(const Config& config, Reporter& reporter) {
  const auto intercepts = [&](const std::vector<Intercept>& entries, const std::string& way) {
    for (const Intercept& entry : entries) {
      expect_listener(config, entry.listener, entry.where, "intercept." + way, reporter);
    }
  };
  intercepts(config.intercept.local, "local");
  intercepts(config.intercept.forward, "forward");
  intercepts(config.intercept.output, "output");
  for (const Route& route : config.routes) {
    expect_listener(config, route.listener, route.where, "route `" + route.name + "`", reporter);
  }
}

namespace {

void check_endpoints(const Upstream& upstream, Reporter& reporter) {
  std::set<std::string> seen;
  for (const Endpoint& endpoint : upstream.endpoints) {
    const bool named = endpoint.is_name();
    if (endpoint.nowhere) {
      reporter.error(endpoint.where, "an endpoint of upstream `" + upstream.name + "` is nowhere",
                     "`address`, `dns`, `srv` or `kubernetes`");
      continue;
    }
    if (!named && endpoint.address.port == 0) continue;  // reported by the schema
    if (endpoint.srv.find_first_of("*[") != std::string::npos) {
      reporter.error(endpoint.where, "`" + endpoint.srv + "` is not the name of a service",
                     "such as _http._tcp.api.internal");
    }
    if (!named && endpoint.family != AddressFamily::any) {
      reporter.error(endpoint.where, "`family` is for names: " + endpoint.text() + " is an address",
                     "remove it");
    }
    if (seen.insert(endpoint.text()).second) continue;
    reporter.error(endpoint.where,
                   "upstream `" + upstream.name + "` names " + endpoint.text() + " twice",
                   "use `weight` for a larger share");
  }
}

void check_balancing(const Upstream& upstream, Reporter& reporter) {
  constexpr std::size_t kShortestKey = 16;
  const std::string who = "upstream `" + upstream.name + "`";
  if (upstream.hash_on && upstream.lb_policy != LbPolicy::maglev) {
    reporter.error(upstream.where, who + ": hash_on is what maglev looks up",
                   "`lb_policy: maglev`, or remove hash_on");
  }
  if (upstream.sticky && upstream.original_destination) {
    reporter.error(upstream.where, who + " has no endpoints to stick to", "remove sticky");
  }
  if (upstream.sticky && !upstream.sticky->key.starts_with("file:") &&
      upstream.sticky->key.size() < kShortestKey) {
    reporter.error(upstream.where, who + ": sticky.key is shorter than 16 bytes",
                   "a long random one, best in a file: `openssl rand -hex 32`");
  }
  if (upstream.retry.max_back_off < upstream.retry.back_off) {
    reporter.error(upstream.where, who + ": retry.max_back_off is shorter than retry.back_off",
                   "the first wait is at most back_off, the later ones at most max_back_off");
  }
}

}  // namespace

void check_upstreams(const Config& config, Reporter& reporter) {
  std::map<SocketAddress, const Listener*> bound;
  for (const Listener& listener : config.listeners) {
    if (!listener.bind) continue;
    const auto [other, fresh] = bound.emplace(*listener.bind, &listener);
    if (fresh) continue;
    reporter.error(listener.where,
                   "listeners `" + other->second->name + "` and `" + listener.name +
                       "` both bind " + listener.bind->to_string(),
                   "the other at " + other->second->where.to_string());
  }
  for (const Upstream& upstream : config.upstreams) {
    if (upstream.name == kOriginalDestination && !upstream.original_destination) {
      reporter.error(upstream.where, "the name `original_destination` is taken",
                     "it stands for where the client wanted to go; choose another name");
    }
    if (upstream.original_destination && upstream.health_check) {
      reporter.error(upstream.where, "upstream `" + upstream.name + "` has no endpoints to check",
                     "remove health_check");
    }
    if (upstream.health_check && upstream.health_check->timeout > upstream.health_check->interval) {
      reporter.warning(upstream.where, "upstream `" + upstream.name +
                                           "`: a health check may take longer than its interval");
    }
    check_endpoints(upstream, reporter);
    check_balancing(upstream, reporter);
  }
}

void cross_check(const Config& config, Reporter& reporter) {
  check_listeners_named(config, reporter);
  check_routes(config, reporter);
  check_route_actions(config, reporter);
  check_auth(config, reporter);
  check_ai(config, reporter);
  check_upstreams(config, reporter);
  check_limits(config, reporter);
  check_bans(config, reporter);
  check_access(config, reporter);
  check_interception(config, reporter);
  check_guard(config, reporter);
  check_tls(config, reporter);
  check_express(config, reporter);
  check_kubernetes(config, reporter);
  check_observability(config, reporter);
  check_idle(config, reporter);
}

}  // namespace sluice::policy
