// The gateway's phases: route, access, upstream.
#include <algorithm>

#include "policy/authority.h"
#include "policy/explain/steps.h"
#include "policy/routing.h"
#include "policy/schema.h"
#include "policy/units.h"

namespace sluice::policy::explaining {

namespace {

bool matches_host(const std::string& pattern, std::string_view host) {
  if (pattern.empty()) return true;
  if (!pattern.starts_with("*.")) return host == pattern;
  const std::string_view suffix = std::string_view(pattern).substr(1);
  return host.size() > suffix.size() && host.ends_with(suffix);
}

bool matches_path(const PathMatch& match, std::string_view path) {
  switch (match.kind) {
    case PathMatch::Kind::any:
      return true;
    case PathMatch::Kind::exact:
      return path == match.value;
    case PathMatch::Kind::regex: {
      const auto regex = Regex::compile(match.value);
      return regex && regex->matches(path);
    }
    case PathMatch::Kind::prefix: {
      std::string_view prefix = match.value;
      if (prefix.ends_with('/')) prefix.remove_suffix(1);
      return path.starts_with(prefix) &&
             (path.size() == prefix.size() || path[prefix.size()] == '/');
    }
  }
  return false;
}

std::string shown(const PathMatch& match) {
  switch (match.kind) {
    case PathMatch::Kind::any:
      return "any path";
    case PathMatch::Kind::exact:
      return "exactly " + match.value;
    case PathMatch::Kind::prefix:
      return "prefix " + match.value;
    case PathMatch::Kind::regex:
      return "regex " + match.value;
  }
  return "";
}

// Empty: it matches.
std::string why_not(const Route& route, const RequestView& request) {
  if (!matches_host(route.host, request.host)) {
    return "host is " + (request.host.empty() ? "not given" : std::string(request.host)) +
           ", not " + route.host;
  }
  if (!matches_path(route.path, request.path)) {
    return "path is " + std::string(request.path) + ", not " + shown(route.path);
  }
  const RequestMatcher conditions = conditions_of(route);
  const RequestMatcher::Part part = conditions.mismatch(request);
  return part == RequestMatcher::Part::none ? "" : conditions.reason(part, request);
}

int host_rank(const Route& route) {
  if (route.host.empty()) return 0;
  const int length = static_cast<int>(route.host.size());
  return route.host.starts_with("*.") ? length : 10'000 + length;
}

int path_rank(const PathMatch& path) {
  switch (path.kind) {
    case PathMatch::Kind::any:
      return 0;
    case PathMatch::Kind::prefix:
      return 1 + static_cast<int>(path.value.size());
    case PathMatch::Kind::regex:
      return 1'000'000;
    case PathMatch::Kind::exact:
      return 2'000'000;
  }
  return 0;
}

// Why a route that matches too is not the one.
std::string why_less(const Route& route, const Route& winner) {
  if (host_rank(route) != host_rank(winner)) return "its host is less specific";
  if (path_rank(route.path) != path_rank(winner.path)) return "its path is less specific";
  if (route.methods.empty() != winner.methods.empty()) return "it names no method";
  if (route.headers.size() != winner.headers.size()) return "it names fewer headers";
  if (route.query.size() != winner.query.size()) return "it names fewer query parameters";
  if (more_specific(winner, route)) return "its original destination is less specific";
  return "it comes later in the file";
}

std::string upstream_names(const Route& route) {
  std::string names;
  for (const WeightedUpstream& upstream : route.upstreams) {
    names += (names.empty() ? "`" : ", `") + upstream.name + "`";
    if (route.upstreams.size() > 1) names += " (weight " + std::to_string(upstream.weight) + ")";
  }
  return names;
}

}  // namespace

namespace {

// `mismatch` of a route: why it does not match; empty: it does.
template <typename Mismatch>
void tell_of_routes(Step& step, const Config& config, const std::string& listener,
                    const Route* winner, Mismatch mismatch_of) {
  if (winner) {
    step.where = winner->where;
    step.name = winner->name;
  }
  std::size_t silent = 0;
  for (const Route& route : config.routes) {
    if (route.listener != listener || &route == winner) continue;
    const std::string mismatch = mismatch_of(route);
    if (!mismatch.empty() && step.reasons.size() >= kMostReasons) {
      ++silent;
      continue;
    }
    const std::string why =
        mismatch.empty() && winner ? "matches too, but " + why_less(route, *winner) : mismatch;
    step.reasons.push_back({"route `" + route.name + "`: " + why, route.where});
  }
  if (silent > 0) {
    step.reasons.push_back({std::to_string(silent) + " further routes do not match", {}});
  }
}

}  // namespace

RouteStep route(const Snapshot& snapshot, std::uint32_t listener, const RequestView& request) {
  const Config& config = snapshot.config();
  const std::string& name = config.listeners[listener].name;
  RouteStep result;
  Step& step = result.step;
  step.phase = "route";
  result.route = snapshot.routes(listener).match(request);
  const Route* winner = result.route ? &config.routes[*result.route] : nullptr;
  step.verdict = winner ? "route `" + winner->name + "`" : "no route claims it";
  tell_of_routes(step, config, name, winner,
                 [&](const Route& route) { return why_not(route, request); });
  return result;
}

RouteStep connection_route(const Snapshot& snapshot, std::uint32_t listener,
                           const RequestView& connection) {
  const Config& config = snapshot.config();
  RouteStep result;
  Step& step = result.step;
  step.phase = "route";
  result.route =
      snapshot.routes(listener).match_connection(connection.host, connection.destination);
  const Route* winner = result.route ? &config.routes[*result.route] : nullptr;
  step.verdict = winner ? "route `" + winner->name + "`" : "no route claims it";
  tell_of_routes(step, config, config.listeners[listener].name, winner, [&](const Route& route) {
    if (route.path.kind != PathMatch::Kind::any || conditions_of(route).names_http())
      return std::string("it asks for what only an HTTP request has");
    return why_not(route, connection);
  });
  return result;
}

FallbackStep fallback(const Snapshot& snapshot, Way way) {
  const Config& config = snapshot.config();
  const Fallback& fallback = snapshot.fallback(way);
  FallbackStep result;
  Step& step = result.step;
  step = {"route", "", config.default_route.where, {}, true};
  const std::string_view word = way == Way::forward  ? "forward"
                                : way == Way::output ? "output"
                                                     : "local";
  const std::string by = "default_route." + std::string(word) + ": ";
  if (const auto* respond = std::get_if<RespondStatus>(&fallback)) {
    step.verdict = by + "refused with " + std::to_string(respond->status);
    result.status = respond->status;
    return result;
  }
  result.upstream = std::get<ForwardTo>(fallback).upstream;
  step.verdict = by + "forwarded to upstream `" + config.upstreams[*result.upstream].name + "`";
  step.final = false;
  return result;
}

Step access(const std::string& owner, const Access& access, const Location& where,
            const RequestView& request, bool closes) {
  const AccessVerdict verdict = access.check(request);
  // The unspecified address is nobody's: the question does not say who asks.
  const std::string client = request.client == IpAddress{} ? "a client that is not given (--from)"
                                                           : request.client.to_string();
  Step step{"access", "", verdict.source ? verdict.source->where : where, {}, !verdict.allowed};
  if (verdict.allowed) {
    step.verdict = owner + " lets " + client + " in";
    step.reasons.push_back({verdict.source ? "allow names " + to_string(*verdict.source)
                                           : "deny does not name it, and there is no allow",
                            step.where});
    return step;
  }
  step.verdict = owner + " refuses " + client + (closes ? ": closed" : " with 403");
  step.reasons.push_back(
      {verdict.source ? "deny names " + to_string(*verdict.source) : "allow does not name it",
       step.where});
  return step;
}

std::optional<Step> authority(const Snapshot& snapshot, std::uint32_t listener, Way way,
                              bool by_name, const RequestView& request) {
  const Listener& owner = snapshot.config().listeners[listener];
  if (!authority_matters(owner, way, by_name) || !request.destination) return std::nullopt;
  const bool strict = owner.verify_authority == VerifyAuthority::strict;
  const std::string to = request.destination->address.to_string();
  Step step{"authority", "", owner.where, {}, false};
  const auto verdict = judge({request.host, std::nullopt, *request.destination});
  const std::string otherwise = strict ? "refused with 421, or closed" : "only counted and logged";
  if (!verdict) {
    step.verdict = "`" + std::string(request.host) + "` must resolve to " + to;
    step.reasons.push_back(
        {"otherwise " + otherwise + "; what it resolves to is asked for then", owner.where});
  } else if (*verdict == AuthorityVerdict::verified) {
    step.verdict = "the address that was dialled is the one that is named";
  } else {
    step.verdict = *verdict == AuthorityVerdict::no_name
                       ? "no name is given, and the connection would go elsewhere"
                       : "`" + std::string(request.host) + "` is not " + to;
    step.verdict += ": " + otherwise;
    step.final = strict;
  }
  return step;
}

Step auth(const Snapshot& snapshot, std::uint32_t route) {
  Step step{"auth", "", snapshot.config().routes[route].where, {}, false};
  bool credentials = false, service = false;
  for (const std::uint32_t index : snapshot.route(route).auth) {
    const Auth& auth = snapshot.config().auth[index];
    (auth.jwt || auth.api_keys ? credentials : service) = true;
    const char* kind = auth.jwt        ? "a token"
                       : auth.api_keys ? "an API key"
                                       : "the word of a service";
    step.reasons.push_back({"auth `" + auth.name + "`: " + kind, auth.where});
  }
  step.verdict = credentials ? "asked for: 401 without" : "";
  if (service) {
    step.verdict += credentials ? "; then a service is asked, and what it refuses with is the answer"
                                : "a service is asked: what it refuses with is the answer";
  }
  return step;
}

Step upstream(const Snapshot& snapshot, const Route& route) {
  const Config& config = snapshot.config();
  if (const auto& redirect = route.actions.redirect) {
    return {"upstream",
            "answered with a redirect, " + std::to_string(redirect->status),
            redirect->where,
            {},
            true};
  }
  if (const auto& response = route.actions.direct_response) {
    return {"upstream",
            "answered directly with " + std::to_string(response->status),
            response->where,
            {},
            true};
  }
  if (route.ai) {
    Step step{"upstream", "served by `ai`: the model that is asked for picks the provider",
              config.ai ? config.ai->where : route.where, {}, true};
    for (const AiProvider& provider : config.ai ? config.ai->providers : std::vector<AiProvider>{})
      step.reasons.push_back({"provider `" + provider.name + "` by upstream `" +
                                  provider.url.upstream + "`", provider.where});
    return step;
  }
  Step step{"upstream", "forwarded to upstream " + upstream_names(route), route.where, {}, true};
  if (route.upstreams.size() == 1) step.name = route.upstreams.front().name;
  for (const WeightedUpstream& target : route.upstreams) {
    const auto index = snapshot.find_upstream(target.name);
    if (!index) continue;
    const Upstream& upstream = config.upstreams[*index];
    if (upstream.original_destination) {
      step.reasons.push_back(
          {"`" + upstream.name + "`: to where the client wanted", upstream.where});
      continue;
    }
    step.reasons.push_back(
        {"`" + upstream.name +
             "`: " + std::string(kLbPolicyWords[static_cast<std::size_t>(upstream.lb_policy)]) +
             " over " + std::to_string(upstream.endpoints.size()) +
             (upstream.endpoints.size() == 1 ? " endpoint" : " endpoints"),
         upstream.where});
  }
  return step;
}

namespace {

void tell_of_endpoints(Step& step, const Upstream& upstream,
                       const std::vector<LiveGateway::EndpointState>& live) {
  for (const auto& endpoint : live) {
    step.reasons.push_back({"`" + upstream.name + "` " + endpoint.name + ": " + endpoint.state +
                                ", weight " + std::to_string(endpoint.weight) + ", " +
                                std::to_string(endpoint.active_requests) + " requests under way",
                            upstream.where});
  }
  if (!live.empty()) return;
  for (const Endpoint& endpoint : upstream.endpoints) {
    if (step.reasons.size() == kMostReasons) break;
    step.reasons.push_back({"`" + upstream.name + "` " + endpoint.address.to_string() +
                                ": weight " + std::to_string(endpoint.weight),
                            endpoint.where});
  }
}

}  // namespace

Step balance(const Snapshot& snapshot, std::span<const std::uint32_t> upstreams,
             const LiveState& live) {
  Step step{"balance", "", {}, {}, true};
  for (const std::uint32_t index : upstreams) {
    const Upstream& upstream = snapshot.config().upstreams[index];
    step.verdict += step.verdict.empty() ? "" : "; ";
    step.where = upstream.where;
    if (upstream.original_destination) {
      step.verdict += "`" + upstream.name + "`: the connection's original destination";
      continue;
    }
    const auto states =
        live.gateway ? live.gateway->endpoints(index) : std::vector<LiveGateway::EndpointState>{};
    tell_of_endpoints(step, upstream, states);
    const auto there = static_cast<std::size_t>(
        std::ranges::count(states, true, &LiveGateway::EndpointState::available));
    step.verdict +=
        "`" + upstream.name +
        "`: " + std::string(kLbPolicyWords[static_cast<std::size_t>(upstream.lb_policy)]) +
        " over " +
        (live.gateway
             ? std::to_string(there) + " of " + std::to_string(states.size()) + " available"
             : std::to_string(upstream.endpoints.size()) + " endpoints, as they are then");
    if (live.gateway && there == 0 && !states.empty())
      step.verdict += " (none: tried all the same, among those that are not drained)";
  }
  return step;
}

}  // namespace sluice::policy::explaining
