#include "policy/validate.h"

#include <algorithm>
#include <map>
#include <set>

#include "policy/nearest_name.h"
#include "policy/schema.h"
#include "policy/units.h"

namespace sluice::policy {

namespace {

template <typename T>
std::vector<std::string_view> names(const std::vector<T>& items) {
  std::vector<std::string_view> all;
  for (const T& item : items)
    all.push_back(item.name);
  return all;
}

// The names that may be referred to, of one kind.
class Known {
 public:
  Known(std::string kind, std::vector<std::string_view> all)
      : kind_(std::move(kind)), all_(std::move(all)), set_(all_.begin(), all_.end()) {}

  void expect(const std::string& name, const Location& where, const std::string& by,
              Reporter& reporter) const {
    if (name.empty() || set_.contains(name)) return;
    reporter.error(where, by + ": there is no " + kind_ + " `" + name + "`",
                   all_.empty() ? "the policy has none" : suggestion(name, all_));
  }

  // A name that may be left out only where there is one choice.
  void expect_some(const std::string& name, const Location& where, const std::string& by,
                   Reporter& reporter) const {
    if (!name.empty()) return expect(name, where, by, reporter);
    reporter.error(where, by + " needs `" + kind_ + "`",
                   all_.empty() ? "the policy has no " + kind_ + "s" : suggestion("", all_));
  }

 private:
  std::string kind_;
  std::vector<std::string_view> all_;
  std::set<std::string_view> set_;
};

void check_default(const DefaultAction& action, const std::string& way,
                   const DefaultRoute& defaults, const Known& upstreams, Reporter& reporter) {
  if (const auto* name = std::get_if<std::string>(&action)) {
    upstreams.expect(*name, defaults.where, "default_route." + way, reporter);
  }
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

void check_references(const Config& config, Reporter& reporter) {
  const Known listeners("listener", names(config.listeners));
  const Known upstreams("upstream", names(config.upstreams));
  const Known limits("limit", names(config.limits));
  const auto intercepts = [&](const std::vector<Intercept>& entries, const std::string& way) {
    for (const Intercept& entry : entries) {
      listeners.expect_some(entry.listener, entry.where, "intercept." + way, reporter);
    }
  };
  intercepts(config.intercept.local, "local");
  intercepts(config.intercept.forward, "forward");
  intercepts(config.intercept.output, "output");
  for (const Route& route : config.routes) {
    listeners.expect_some(route.listener, route.where, "route `" + route.name + "`", reporter);
    for (const WeightedUpstream& upstream : route.upstreams) {
      upstreams.expect(upstream.name, route.where, "route `" + route.name + "`", reporter);
    }
    for (const std::string& limit : route.limits) {
      limits.expect(limit, route.where, "route `" + route.name + "`", reporter);
    }
  }
  for (const BanRule& rule : config.bans.rules) {
    limits.expect(rule.limit, rule.where, "ban rule", reporter);
  }
  check_default(config.default_route.local, "local", config.default_route, upstreams, reporter);
  check_default(config.default_route.forward, "forward", config.default_route, upstreams, reporter);
  check_default(config.default_route.output, "output", config.default_route, upstreams, reporter);
}

void check_routes(const Config& config, Reporter& reporter) {
  std::map<std::string, const Route*> by_match;
  std::map<std::string_view, const Route*> by_name;
  for (const Route& route : config.routes) {
    check_route_upstreams(route, reporter);
    check_tcp_route(config, route, reporter);
    check_loops(config, route, reporter);
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
  check_references(config, reporter);
  check_routes(config, reporter);
  check_upstreams(config, reporter);
  check_limits(config, reporter);
  check_interception(config, reporter);
  check_guard(config, reporter);
}

}  // namespace sluice::policy
