// Cross-checks of routes: that each goes somewhere, and that each can match.
#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "policy/regex.h"
#include "policy/routing.h"
#include "policy/schema.h"
#include "policy/shadowing.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

using UpstreamsByName = std::unordered_map<std::string_view, const Upstream*>;

UpstreamsByName by_name_of(const Config& config) {
  UpstreamsByName upstreams;
  for (const Upstream& upstream : config.upstreams)
    upstreams.emplace(upstream.name, &upstream);
  return upstreams;
}

void check_route_upstreams(const Route& route, Reporter& reporter) {
  if (route.upstreams.empty() && (route.ai || route.actions.answers())) return;
  if (route.upstreams.empty()) {
    reporter.error(route.where, "route `" + route.name + "` has no upstream",
                   "such as `upstream: api`, or `redirect`, `direct_response` or `ai: true`");
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

// What a route does that connections without HTTP would never see; "": nothing.
std::string_view done_over_http(const Route& route) {
  const RouteActions& actions = route.actions;
  if (!route.auth.empty()) return "auth";
  if (actions.max_body || actions.max_response_body) return "max_body";
  if (!actions.request_headers.empty() || !actions.response_headers.empty()) return "headers";
  if (actions.rewrite) return "rewrite";
  if (actions.cors) return "cors";
  if (actions.mirror) return "mirror";
  if (actions.compression) return "compression";
  return route.timeout > Duration{} ? "timeout" : "";
}

// `tls`: passed through, so that nothing but the name is known.
void check_tcp_route(const Config& config, const Route& route, Reporter& reporter) {
  const auto listener = std::ranges::find(config.listeners, route.listener, &Listener::name);
  if (listener == config.listeners.end()) return;
  const bool passed_through = listener->protocol == ListenerProtocol::tls;
  if (listener->protocol != ListenerProtocol::tcp && !passed_through) return;
  const std::string speaks = passed_through ? "passes TLS through" : "speaks plain TCP";
  if (route.actions.answers() || route.ai) {
    reporter.error(route.where,
                   "route `" + route.name + "` answers over HTTP, but listener `" + route.listener +
                       "` " + speaks,
                   "give it an upstream, or set `protocol: http` or `auto`");
  } else if (const std::string_view what = done_over_http(route); !what.empty()) {
    reporter.error(route.where,
                   "route `" + route.name + "` has `" + std::string(what) + "`, but listener `" +
                       route.listener + "` " + speaks,
                   "leave it out, or set `protocol: http` or `auto`");
  }
  if (passed_through || !asks_http(route)) return;
  reporter.error(route.where,
                 "route `" + route.name + "` matches by what HTTP says, but listener `" +
                     route.listener + "` " + speaks,
                 "leave host, path, methods, headers and query out, or set `protocol: http` or "
                 "`auto`");
}

// Whether anything of the listener's knows an original destination other than the listener itself.
bool has_original_destination(const Config& config, const std::string& listener) {
  const auto serves = [&](const std::vector<Intercept>& entries) {
    return std::ranges::find(entries, listener, &Intercept::listener) != entries.end();
  };
  return serves(config.intercept.forward) || serves(config.intercept.output);
}

void check_loops(const Config& config, const Route& route, const UpstreamsByName& upstreams,
                 Reporter& reporter) {
  for (const WeightedUpstream& target : route.upstreams) {
    const auto upstream = upstreams.find(target.name);
    if (upstream == upstreams.end() || !upstream->second->original_destination) continue;
    if (has_original_destination(config, route.listener)) continue;
    reporter.error(route.where,
                   "route `" + route.name +
                       "` sends to the original destination, which on listener `" + route.listener +
                       "` is the listener itself",
                   "only what intercept.forward or intercept.output catches has another one");
  }
}

void check_path(const Route& route, Reporter& reporter) {
  if (route.path.kind != PathMatch::Kind::regex) return;
  const auto regex = Regex::compile(route.path.value);
  if (!regex || regex->may_begin_with('/')) return;
  reporter.error(route.where,
                 "route `" + route.name + "` never matches: every path begins with `/`, and " +
                     route.path.value + " stands for the whole path",
                 "begin the expression with `/`, or with `.*`");
}

// Routes that another one leaves nothing for.
void check_shadows(const Config& config, Reporter& reporter) {
  for (const Shadow& shadow : find_shadows(config.routes)) {
    const Route& route = config.routes[shadow.route];
    const Route& by = config.routes[shadow.by];
    if (shadow.same) {
      reporter.error(route.where, "route `" + route.name + "` never matches",
                     "the route at " + by.where.to_string() + " matches the same requests");
    } else {
      reporter.warning(route.where,
                       "route `" + route.name + "` never matches: route `" + by.name +
                           "` takes all its requests",
                       "the other at " + by.where.to_string());
    }
  }
}

}  // namespace

void check_routes(const Config& config, Reporter& reporter) {
  const UpstreamsByName upstreams = by_name_of(config);
  std::map<std::string_view, const Route*> by_name;
  for (const Route& route : config.routes) {
    check_route_upstreams(route, reporter);
    check_tcp_route(config, route, reporter);
    check_path(route, reporter);
    if (!route.listener.empty()) check_loops(config, route, upstreams, reporter);
  }
  check_shadows(config, reporter);
  for (const Route& route : config.routes) {
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

}  // namespace sluice::policy
