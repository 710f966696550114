// The gateway's phases: route, limits, upstream.
#include <algorithm>

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

std::string shown(const LimitKeyPart& part) {
  if (part.kind == LimitKey::header) return "header " + part.name;
  if (part.kind == LimitKey::claim) return "claim " + part.name;
  return std::string(kLimitKeyWords[static_cast<std::size_t>(part.kind)]);
}

std::string beyond(const Limit& limit) {
  switch (limit.action) {
    case LimitAction::reject:
      return limit.unit == LimitUnit::connections ? "closed" : "429";
    case LimitAction::delay:
      return "delayed up to " + format_duration(limit.max_delay) + ", then 429";
    case LimitAction::count:
      return "only counted";
  }
  return "";
}

std::string describe(const Limit& limit, std::uint32_t cost) {
  std::string keys;
  for (const LimitKeyPart& part : limit.key)
    keys += (keys.empty() ? "" : ", ") + shown(part);
  std::string text = "limit `" + limit.name + "`: ";
  if (limit.unit == LimitUnit::concurrency) {
    text += std::to_string(limit.max) + " at a time";
  } else {
    text += std::to_string(limit.rate_count) + " in " + format_duration(limit.rate_period) +
            ", burst " + std::to_string(limit.burst);
  }
  text += ", by " + keys;
  if (limit.scope == LimitScope::cluster) text += ", over the cluster";
  if (cost != 1) text += ", at a cost of " + std::to_string(cost);
  return text + "; beyond: " + beyond(limit);
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

RouteStep route(const Snapshot& snapshot, std::uint32_t listener, const RequestView& request) {
  const Config& config = snapshot.config();
  const std::string& name = config.listeners[listener].name;
  RouteStep result;
  Step& step = result.step;
  step.phase = "route";
  result.route = snapshot.routes(listener).match(request);
  const Route* winner = result.route ? &config.routes[*result.route] : nullptr;
  step.verdict = winner ? "route `" + winner->name + "`" : "no route claims it";
  if (winner) step.where = winner->where;
  std::size_t silent = 0;
  for (const Route& route : config.routes) {
    if (route.listener != name || &route == winner) continue;
    const std::string mismatch = why_not(route, request);
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
  return result;
}

Step fallback(const Snapshot& snapshot, Way way) {
  const Config& config = snapshot.config();
  const Fallback& fallback = snapshot.fallback(way);
  Step step{"route", "", config.default_route.where, {}, true};
  const std::string_view word = way == Way::forward  ? "forward"
                                : way == Way::output ? "output"
                                                     : "local";
  const std::string by = "default_route." + std::string(word) + ": ";
  if (const auto* respond = std::get_if<RespondStatus>(&fallback)) {
    step.verdict = by + "refused with " + std::to_string(respond->status);
  } else {
    step.verdict = by + "forwarded to upstream `" +
                   config.upstreams[std::get<ForwardTo>(fallback).upstream].name + "`";
    step.final = false;
  }
  return step;
}

Step access(const std::string& owner, const Access& access, const Location& where,
            const RequestView& request, bool closes) {
  const AccessVerdict verdict = access.check(request);
  const std::string client = request.client.to_string();
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

Step limits(const Snapshot& snapshot, const Route& route, const Listener& listener) {
  const Config& config = snapshot.config();
  Step step{"limits", "no limit applies", {}, {}, false};
  const auto add = [&](const std::string& name, std::uint32_t cost, const Location& where) {
    const auto index = snapshot.find_limit(name);
    if (!index) return;
    const Limit& limit = config.limits[*index];
    step.reasons.push_back({describe(limit, cost), limit.where});
    step.where = where;
  };
  for (const std::string& name : listener.limits)
    add(name, 1, listener.where);
  for (const LimitUse& use : route.limits)
    add(use.name, use.cost, route.where);
  if (!step.reasons.empty()) {
    step.verdict = step.reasons.size() == 1 ? "one limit applies"
                                            : std::to_string(step.reasons.size()) + " limits apply";
  }
  return step;
}

Step upstream(const Snapshot& snapshot, const Route& route) {
  const Config& config = snapshot.config();
  if (const auto& redirect = route.actions.redirect) {
    return {"upstream", "answered with a redirect, " + std::to_string(redirect->status),
            redirect->where, {}, true};
  }
  if (const auto& response = route.actions.direct_response) {
    return {"upstream", "answered directly with " + std::to_string(response->status),
            response->where, {}, true};
  }
  Step step{"upstream", "forwarded to upstream " + upstream_names(route), route.where, {}, true};
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

}  // namespace sluice::policy::explaining
