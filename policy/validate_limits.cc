// Cross-checks of limits, bans and access rules.
#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "policy/access.h"
#include "policy/schema.h"
#include "policy/snapshot.h"
#include "policy/units.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

std::string quoted(const std::string& kind, const std::string& name) {
  return kind + " `" + name + "`";
}

void check_concurrency(const Limit& limit, Reporter& reporter) {
  const std::string who = quoted("limit", limit.name);
  if (limit.max == 0) {
    reporter.error(limit.where, "limits." + limit.name + " needs `max`", "such as `max: 10`");
  }
  if (limit.action == LimitAction::delay) {
    reporter.error(limit.where, who + " of unit concurrency cannot delay", "reject or count");
  }
  if (limit.scope == LimitScope::cluster) {
    reporter.error(limit.where, who + " of unit concurrency is counted per node",
                   "leave `scope` out");
  }
}

void check_rate(const Config& config, const Limit& limit, Reporter& reporter) {
  constexpr Duration kLongest = 24h * 366;
  const std::string who = quoted("limit", limit.name);
  if (limit.max != 0) {
    reporter.error(limit.where, who + " has `max`, which only unit concurrency has",
                   "set `unit: concurrency`");
  }
  if (limit.rate_count == 0) {
    // A misspelt one is told already.
    if (!reporter.has_errors()) {
      reporter.error(limit.where, "limits." + limit.name + " needs `rate`",
                     "such as `rate: 100/s`");
    }
    return;
  }
  const double fill = static_cast<double>(limit.rate_period.count()) *
                      (static_cast<double>(limit.burst) / static_cast<double>(limit.rate_count));
  if (fill > static_cast<double>(kLongest.count())) {
    reporter.error(limit.where,
                   who + ": a burst of " + std::to_string(limit.burst) +
                       " takes more than a year to come back at this rate",
                   "lower the burst or raise the rate");
  }
  if (limit.unit == LimitUnit::tokens && limit.action == LimitAction::delay) {
    reporter.error(limit.where, who + " of unit tokens cannot delay", "reject or count");
  }
  if (limit.scope != LimitScope::cluster) return;
  if (!config.redis) {
    reporter.error(limit.where, who + " of scope cluster needs `cluster.redis`",
                   "such as `cluster: { redis: { url: \"redis://192.0.2.6:6379\" } }`");
  }
  if (limit.action == LimitAction::delay) {
    reporter.error(limit.where, who + " of scope cluster cannot delay", "reject or count");
  }
}

void check_key(const Limit& limit, Reporter& reporter) {
  if (limit.key.empty()) {
    reporter.error(
        limit.where, quoted("limit", limit.name) + " has an empty key",
        "known: client_ip, route, method, host, destination, identity, { header: name }, "
        "{ claim: name }");
  }
  for (auto part = limit.key.begin(); part != limit.key.end(); ++part) {
    const bool named = part->kind == LimitKey::header || part->kind == LimitKey::claim;
    if (named && part->name.empty()) {
      reporter.error(limit.where, quoted("limit", limit.name) + " has a key part of no name");
    }
    if (std::find(limit.key.begin(), part, *part) != part) {
      reporter.error(limit.where, quoted("limit", limit.name) + " names a part of its key twice");
    }
  }
}

const Limit* find_limit(const Config& config, const std::string& name) {
  const auto found = std::ranges::find(config.limits, name, &Limit::name);
  return found == config.limits.end() ? nullptr : &*found;
}

void check_listener_limit(const Listener& listener, const Limit& limit, Reporter& reporter) {
  const std::string what = quoted("listener", listener.name) + " uses limit `" + limit.name + "`";
  if (limit.unit == LimitUnit::requests || limit.unit == LimitUnit::tokens) {
    const bool tokens = limit.unit == LimitUnit::tokens;
    reporter.error(listener.where, what + ", which counts " + (tokens ? "tokens" : "requests"),
                   "listeners take limits of unit connections or concurrency");
  }
  if (limit.action == LimitAction::delay || limit.scope == LimitScope::cluster) {
    reporter.error(listener.where, what + ", which has action delay or scope cluster",
                   "connections are let in or closed, by each node's own count");
  }
  const bool http = std::ranges::any_of(limit.key, [](const LimitKeyPart& part) {
    return part.kind != LimitKey::client_ip && part.kind != LimitKey::destination;
  });
  if (http) {
    reporter.error(listener.where, what + ", whose key is not known when a connection comes",
                   "client_ip and destination are");
  }
}

// Whether `tight` refuses all that `loose` would, so that `loose` never decides.
bool implies(const Limit& tight, const Limit& loose) {
  if (tight.unit != loose.unit || tight.action != LimitAction::reject) return false;
  if (!std::ranges::is_permutation(tight.key, loose.key)) return false;
  if (tight.ipv4_prefix != loose.ipv4_prefix || tight.ipv6_prefix != loose.ipv6_prefix)
    return false;
  if (tight.scope != loose.scope) return false;
  if (tight.unit == LimitUnit::concurrency) return tight.max <= loose.max;
  const double tight_rate =
      static_cast<double>(tight.rate_count) / static_cast<double>(tight.rate_period.count());
  const double loose_rate =
      static_cast<double>(loose.rate_count) / static_cast<double>(loose.rate_period.count());
  return tight_rate <= loose_rate && tight.burst <= loose.burst;
}

void check_route_limits(const Config& config, const Route& route, Reporter& reporter) {
  if (route.limits.size() > kMaxRouteLimits) {
    reporter.error(route.where, quoted("route", route.name) + " uses too many limits",
                   "at most " + std::to_string(kMaxRouteLimits));
  }
  std::vector<std::pair<const Limit*, std::uint32_t>> used;
  for (const LimitUse& use : route.limits) {
    const Limit* limit = find_limit(config, use.name);
    if (limit == nullptr) continue;  // reported by the schema
    const std::string what = quoted("route", route.name) + " uses limit `" + use.name + "`";
    if (limit->unit == LimitUnit::connections) {
      reporter.error(route.where, what + ", which counts new connections",
                     "put it into the listener's `limits`, or set `unit: requests`");
    }
    if (limit->unit == LimitUnit::tokens && !route.ai) {
      reporter.error(route.where, what + ", which counts tokens, and is not served by `ai`",
                     "`ai: true`, or `unit: requests`");
    }
    if (limit->unit == LimitUnit::tokens && use.cost != 1) {
      reporter.error(route.where, what + " at a cost, and a token is a token", "leave `cost` out");
    }
    const bool by_claim =
        std::ranges::find(limit->key, LimitKey::claim, &LimitKeyPart::kind) != limit->key.end();
    if (by_claim && route.auth.empty() && !route.ai) {
      reporter.warning(route.where, what + ", which counts by a claim, and has no `auth`",
                       "nobody has claims there: all callers are one key");
    }
    if (limit->unit == LimitUnit::concurrency ? use.cost > limit->max && limit->max > 0
                                              : use.cost > limit->burst && limit->burst > 0) {
      reporter.error(route.where,
                     what + " at a cost of " + std::to_string(use.cost) + ", more than it ever has",
                     "raise its burst or lower the cost");
    }
    for (const auto& [other, cost] : used) {
      if (other == limit) {
        reporter.error(route.where, what + " twice", "give it one cost");
      } else if (cost >= use.cost && implies(*other, *limit)) {
        reporter.warning(route.where, what + ", which `" + other->name + "` always forestalls");
      } else if (use.cost >= cost && implies(*limit, *other)) {
        reporter.warning(route.where, what + ", so that `" + other->name + "` never decides");
      }
    }
    used.emplace_back(limit, use.cost);
  }
}

void check_ban_cause(const Config& config, const BanRule& rule, Reporter& reporter) {
  if (rule.limit.empty() && !rule.event) {
    reporter.error(rule.where, "`when` needs `limit` or `event`",
                   "such as `when: { limit: per-client }`");
  }
  if (rule.route.empty()) return;
  if (std::ranges::find(config.routes, rule.route, &Route::name) == config.routes.end()) {
    reporter.error(rule.where, "there is no route `" + rule.route + "`",
                   "give the route this `name`");
  }
  if (rule.event == BanEvent::http2_abuse || rule.event == BanEvent::malformed_request ||
      rule.event == BanEvent::tls_handshake) {
    reporter.error(rule.where, "this event belongs to a connection, not to a route",
                   "leave `route` out");
  }
}

std::string described(const std::string& owner, const char* list, const AccessSource& source) {
  return owner + ": access." + list + " " + to_string(source);
}

// Entries that another one covers change nothing.
void check_covered(const std::string& owner, const char* list,
                   const std::vector<AccessSource>& sources, Reporter& reporter) {
  constexpr std::size_t kMostCompared = 1000;
  if (sources.size() > kMostCompared) return;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    for (std::size_t j = 0; j < sources.size(); ++j) {
      const auto& narrow = sources[i].cidr;
      const auto& wide = sources[j].cidr;
      if (i == j || !narrow || !wide || !wide->contains(*narrow)) continue;
      if (*narrow == *wide && i < j) continue;  // told of the later one
      reporter.warning(sources[i].where, described(owner, list, sources[i]) + " lies within " +
                                             to_string(sources[j]) + ", which is named too");
      break;
    }
  }
}

void check_rules(const std::string& owner, const AccessRules& rules, Reporter& reporter) {
  check_covered(owner, "allow", rules.allow, reporter);
  check_covered(owner, "deny", rules.deny, reporter);
  for (const AccessSource& allowed : rules.allow) {
    for (const AccessSource& denied : rules.deny) {
      if (!allowed.cidr || !denied.cidr || !denied.cidr->contains(*allowed.cidr)) continue;
      reporter.warning(allowed.where, described(owner, "allow", allowed) +
                                          " never lets anyone in: access.deny names " +
                                          to_string(denied));
      break;
    }
  }
}

template <typename Use>
void for_each_source(const AccessRules& rules, Use use) {
  for (const auto* list : {&rules.allow, &rules.deny})
    std::ranges::for_each(*list, use);
}

// What a rule asks for, somebody must be able to prove.
void check_proofs(const Config& config, const Route& route, Reporter& reporter) {
  const auto listener = std::ranges::find(config.listeners, route.listener, &Listener::name);
  const bool certificates = listener != config.listeners.end() && listener->tls &&
                            listener->tls->client_auth != ClientAuth::none;
  for_each_source(route.access, [&](const AccessSource& source) {
    const std::string who = quoted("route", route.name) + ": access names " + to_string(source);
    if (source.claim && route.auth.empty()) {
      reporter.error(source.where, who + ", and nobody is asked who they are",
                     "`auth: [...]` on the route");
    }
    if (!source.identity.empty() && !certificates) {
      reporter.error(source.where, who + ", and no client shows a certificate",
                     "`tls.client_auth` and `tls.client_ca` on the listener");
    }
    if (source.identity == "*") {
      reporter.error(source.where, who + ", which is any", "a `*` at one end of a name");
    }
  });
}

}  // namespace

void check_limits(const Config& config, Reporter& reporter) {
  for (const Limit& limit : config.limits) {
    check_key(limit, reporter);
    if (limit.unit == LimitUnit::concurrency) {
      check_concurrency(limit, reporter);
    } else {
      check_rate(config, limit, reporter);
    }
  }
  for (const Listener& listener : config.listeners) {
    if (listener.limits.size() > kMaxRouteLimits) {
      reporter.error(listener.where, quoted("listener", listener.name) + " uses too many limits",
                     "at most " + std::to_string(kMaxRouteLimits));
    }
    for (const std::string& name : listener.limits) {
      const Limit* limit = find_limit(config, name);
      if (limit != nullptr) check_listener_limit(listener, *limit, reporter);
    }
  }
  for (const Route& route : config.routes)
    check_route_limits(config, route, reporter);
  if (config.redis && config.redis->address.port == 0) {
    reporter.error(config.redis->where, "cluster.redis.url is not redis://host:port",
                   "such as `redis://192.0.2.6:6379` or `rediss://redis.internal:6380/1`");
  }
}

void check_bans(const Config& config, Reporter& reporter) {
  for (const BanRule& rule : config.bans.rules) {
    check_ban_cause(config, rule, reporter);
    if (rule.up_to < rule.duration) {
      reporter.error(rule.where,
                     "`up_to` (" + format_duration(rule.up_to) + ") is shorter than `for` (" +
                         format_duration(rule.duration) + ")",
                     "`up_to` is the longest ban");
    }
    if (rule.action == BanAction::route && rule.upstream.empty()) {
      reporter.error(rule.where, "`action: route` needs `upstream`", "where its requests go");
    }
    if (rule.action == BanAction::drop && !rule.upstream.empty()) {
      reporter.error(rule.where, "`upstream` has no meaning when packets are dropped",
                     "set `action: route`");
    }
  }
}

void check_access(const Config& config, Reporter& reporter) {
  for (const Listener& listener : config.listeners)
    check_rules(quoted("listener", listener.name), listener.access, reporter);
  for (const Route& route : config.routes) {
    check_rules(quoted("route", route.name), route.access, reporter);
    check_proofs(config, route, reporter);
  }
}

}  // namespace sluice::policy
