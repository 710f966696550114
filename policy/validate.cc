#include "policy/validate.h"

#include <algorithm>
#include <map>
#include <set>

#include "policy/nearest_name.h"
#include "policy/schema.h"
#include "policy/units.h"

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

std::string key_of(const Route& route) {
  std::string path = route.path.value;
  if (route.path.kind == PathMatch::Kind::prefix && path.ends_with('/')) path.pop_back();
  return route.listener + "\n" + route.host + "\n" +
         std::to_string(static_cast<int>(route.path.kind)) + path;
}

void check_route_upstreams(const Route& route, Reporter& reporter) {
  if (route.upstreams.empty()) {
    reporter.error(route.where, "route `" + route.name + "` has no upstream",
                   "such as `upstream: api`");
    return;
  }
  const bool some = std::ranges::any_of(
      route.upstreams, [](const WeightedUpstream& upstream) { return upstream.weight > 0; });
  if (!some)
    reporter.error(route.where, "every upstream of route `" + route.name + "` has weight 0");
  std::set<std::string_view> seen;
  for (const WeightedUpstream& upstream : route.upstreams) {
    if (seen.insert(upstream.name).second) continue;
    reporter.error(route.where,
                   "route `" + route.name + "` names upstream `" + upstream.name + "` twice",
                   "give it one weight");
  }
}

void check_tcp_route(const Config& config, const Route& route, Reporter& reporter) {
  const auto listener = std::ranges::find(config.listeners, route.listener, &Listener::name);
  if (listener == config.listeners.end() || listener->protocol != ListenerProtocol::tcp) return;
  if (route.host.empty() && route.path.kind == PathMatch::Kind::any) return;
  reporter.error(route.where,
                 "route `" + route.name + "` matches by host or path, but listener `" +
                     route.listener + "` speaks plain TCP",
                 "leave host and path out, or set `protocol: http` or `auto`");
}

// Whether anything of the listener's knows an original destination other than the listener itself.
bool has_original_destination(const Config& config, const std::string& listener) {
  const auto serves = [&](const std::vector<Intercept>& entries) {
    return std::ranges::find(entries, listener, &Intercept::listener) != entries.end();
  };
  return serves(config.intercept.forward) || serves(config.intercept.output);
}

void check_loops(const Config& config, const Route& route, Reporter& reporter) {
  for (const WeightedUpstream& target : route.upstreams) {
    const auto upstream = std::ranges::find(config.upstreams, target.name, &Upstream::name);
    if (upstream == config.upstreams.end() || !upstream->original_destination) continue;
    if (has_original_destination(config, route.listener)) continue;
    reporter.error(route.where,
                   "route `" + route.name +
                       "` sends to the original destination, which on listener `" + route.listener +
                       "` is the listener itself",
                   "only what intercept.forward or intercept.output catches has another one");
  }
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

void check_routes(const Config& config, Reporter& reporter) {
  std::map<std::string, const Route*> by_match;
  std::map<std::string_view, const Route*> by_name;
  for (const Route& route : config.routes) {
    check_route_upstreams(route, reporter);
    check_tcp_route(config, route, reporter);
    if (!route.listener.empty()) check_loops(config, route, reporter);
    const auto [same, fresh] = by_match.emplace(key_of(route), &route);
    if (!fresh) {
      reporter.error(route.where, "route `" + route.name + "` never matches",
                     "the route at " + same->second->where.to_string() +
                         " has the same listener, host and path");
      continue;
    }
    const auto [named, unique] = by_name.emplace(route.name, &route);
    if (!unique) {
      reporter.error(route.where, "two routes are named `" + route.name + "`",
                     "the other at " + named->second->where.to_string());
    }
  }
  const auto* local = std::get_if<std::string>(&config.default_route.local);
  if (!local) return;
  const auto upstream = std::ranges::find(config.upstreams, *local, &Upstream::name);
  if (upstream == config.upstreams.end() || !upstream->original_destination) return;
  reporter.error(
      config.default_route.where,
      "default_route.local: the original destination of a local connection is the listener itself",
      "a status, or an upstream with endpoints");
}

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
    std::set<SocketAddress> seen;
    for (const Endpoint& endpoint : upstream.endpoints) {
      if (endpoint.address.port == 0 || seen.insert(endpoint.address).second) continue;
      reporter.error(
          endpoint.where,
          "upstream `" + upstream.name + "` names " + endpoint.address.to_string() + " twice",
          "use `weight` for a larger share");
    }
  }
}

void check_limits(const Config& config, Reporter& reporter) {
  constexpr Duration kLongest = 24h * 366;
  for (const Limit& limit : config.limits) {
    if (limit.rate_count == 0) continue;  // reported by the schema
    if (limit.key.empty()) {
      reporter.error(limit.where, "limit `" + limit.name + "` has an empty key",
                     "known: client_ip, route");
    }
    const double fill = static_cast<double>(limit.rate_period.count()) *
                        (static_cast<double>(limit.burst) / static_cast<double>(limit.rate_count));
    if (fill > static_cast<double>(kLongest.count())) {
      reporter.error(limit.where,
                     "limit `" + limit.name + "`: a burst of " + std::to_string(limit.burst) +
                         " takes more than a year to come back at this rate",
                     "lower the burst or raise the rate");
    }
  }
  for (const BanRule& rule : config.bans.rules) {
    if (rule.up_to < rule.duration) {
      reporter.error(rule.where,
                     "`up_to` (" + format_duration(rule.up_to) + ") is shorter than `for` (" +
                         format_duration(rule.duration) + ")",
                     "`up_to` is the longest ban");
    }
  }
}

void cross_check(const Config& config, Reporter& reporter) {
  check_listeners_named(config, reporter);
  check_routes(config, reporter);
  check_upstreams(config, reporter);
  check_limits(config, reporter);
  check_interception(config, reporter);
  check_guard(config, reporter);
}

}  // namespace sluice::policy
