// What is known of a source, whatever it sends.
#include <algorithm>

#include "policy/access.h"
#include "policy/explain/steps.h"

namespace sluice::policy::explaining {

namespace {

std::string number_of(std::size_t count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

bool holds(const std::vector<Prefix>& prefixes, const IpAddress& address) {
  return std::ranges::any_of(prefixes,
                             [&](const Prefix& prefix) { return prefix.contains(address); });
}

void tell_of_protect(Step& step, const Config& config, const IpAddress& source) {
  for (const ProtectFrom& entry : config.protect.from) {
    if (!entry.cidr.contains(source)) continue;
    const bool all = entry.to_ports.empty() && entry.interfaces.empty();
    step.reasons.push_back(
        {"protect.from " + entry.cidr.to_string() + (all ? "" : ", for some ports or interfaces"),
         entry.where});
  }
  if (holds(config.trusted_proxies, source))
    step.reasons.push_back(
        {"a trusted proxy: never banned, and what it says of clients counts", {}});
  for (const Upstream& upstream : config.upstreams) {
    for (const Endpoint& endpoint : upstream.endpoints) {
      if (!endpoint.is_name() && endpoint.address.address == source)
        step.reasons.push_back({"an endpoint of upstream `" + upstream.name + "`", endpoint.where});
    }
  }
}

// Why a rule that is only for some sources has to do with this one; "": it has not.
std::string named_by(const GuardRule& rule, const IpAddress& source) {
  if (rule.match.from.empty() || !rule.match.from.contains(source)) return "";
  if (!rule.except.from.empty() && rule.except.from.contains(source)) return "excepts it";
  const SetReference* set = rule.match.from.set_with(source);
  return set != nullptr ? "names it, by set `" + set->name + "`" : "names it";
}

std::string_view effect(const GuardConfig& guard, const GuardRule& rule) {
  if (rule.action == GuardAction::count) return "only counts";
  if (guard.mode == GuardMode::audit || rule.mode == GuardMode::audit) return "on audit";
  const GuardMatch& match = rule.match;
  const bool narrow = !match.to.empty() || !match.from_ports.empty() || !match.to_ports.empty() ||
                      rule.protocol || rule.interfaces || rule.direction == GuardDirection::egress;
  if (rule.action == GuardAction::limit)
    return narrow ? "limits some of its packets" : "limits its packets";
  return narrow ? "drops some of its packets" : "drops its packets";
}

// True: the rules refuse it.
bool tell_of_access(Step& step, const std::string& owner, const Access& access,
                    const IpAddress& source) {
  if (access.empty()) return false;
  RequestView view;
  view.client = source;
  const AccessVerdict verdict = access.check(view);
  if (verdict.allowed && verdict.source == nullptr) return false;
  const std::string by =
      verdict.source != nullptr ? " names " + to_string(*verdict.source) : " does not name it";
  step.reasons.push_back(
      {owner + (verdict.allowed ? " lets it in: allow" : " refuses it: ") +
           (verdict.allowed ? by : (verdict.source != nullptr ? "deny" : "allow") + by),
       verdict.source != nullptr ? verdict.source->where : Location{}});
  return !verdict.allowed;
}

std::string refusal_of(const Config& config, const Limit& limit) {
  const auto uses = [&](const auto& user) {
    return std::ranges::find(user.limits, limit.name) != user.limits.end();
  };
  if (std::ranges::none_of(config.listeners, uses)) return std::string(kRefused);
  const bool both = std::ranges::any_of(config.routes, [&](const Route& route) {
    return std::ranges::find(route.limits, limit.name, &LimitUse::name) != route.limits.end();
  });
  return both ? "429, of a connection closed" : std::string(kClosed);
}

}  // namespace

Step source_protect(const Snapshot& snapshot, const IpAddress& source, const LiveState& live) {
  Step step{"protect", "", {}, {}, false};
  tell_of_protect(step, snapshot.config(), source);
  for (const LiveState::BuiltIn& entry : live.built_in) {
    if (entry.peer.contains(source)) step.reasons.push_back({entry.what, {}});
  }
  if (std::ranges::find(live.node_addresses, source) != live.node_addresses.end())
    step.reasons.push_back({"an address of this node", {}});
  step.verdict = step.reasons.empty() ? kNotProtected : "protected, at least in part";
  if (!step.reasons.empty()) step.where = step.reasons.front().where;
  return step;
}

Step source_guard(const Snapshot& snapshot, const IpAddress& source) {
  const auto& guard = snapshot.config().guard;
  if (!guard) return {"guard", "the policy has no guard rules", {}, {}, false};
  Step step{"guard", "no rule names it", {}, {}, false};
  std::size_t open = 0;
  for (const GuardRule& rule : guard->rules) {
    open += rule.match.from.empty() ? 1 : 0;
    const std::string why = named_by(rule, source);
    if (why.empty()) continue;
    if (step.reasons.empty()) step.where = rule.where;
    const std::string and_then =
        why.starts_with("names") ? ", " + std::string(effect(*guard, rule)) : "";
    step.reasons.push_back({"rule `" + rule.name + "`: " + why + and_then, rule.where});
  }
  if (!step.reasons.empty())
    step.verdict = "named by " + number_of(step.reasons.size(), "rule", "rules");
  if (open > 0)
    step.reasons.push_back(
        {number_of(open, "rule looks", "rules look") + " at any source: ask with --to and --port",
         {}});
  return step;
}

Step source_access(const Snapshot& snapshot, const IpAddress& source) {
  const Config& config = snapshot.config();
  Step step{"access", "no access rule names it", {}, {}, false};
  std::size_t refused = 0;
  for (std::uint32_t i = 0; i < config.listeners.size(); ++i)
    refused += tell_of_access(step, "listener `" + config.listeners[i].name + "`",
                              snapshot.listener(i).access, source);
  for (std::uint32_t i = 0; i < config.routes.size() && step.reasons.size() < kMostReasons; ++i)
    refused += tell_of_access(step, "route `" + config.routes[i].name + "`",
                              snapshot.route(i).access, source);
  if (!step.reasons.empty()) step.where = step.reasons.front().where;
  if (refused > 0)
    step.verdict = "refused by " + number_of(refused, "listener or route", "listeners and routes");
  else if (!step.reasons.empty())
    step.verdict = "let in where it is named";
  return step;
}

// Those that count by the address alone; what others count depends on the request.
Step source_limits(const Snapshot& snapshot, const IpAddress& source, const LiveState& live) {
  const Config& config = snapshot.config();
  Step step{"limits", "no limit counts by the client alone", {}, {}, false};
  RequestView view;
  view.client = source;
  std::size_t used_up = 0;
  for (std::uint32_t i = 0; i < config.limits.size() && step.reasons.size() < kMostReasons; ++i) {
    const Limit& limit = config.limits[i];
    if (limit.key != std::vector<LimitKeyPart>{LimitKey::client_ip}) continue;
    ToldLimit told = tell(limit, {.index = i, .cost = 1}, view, 0, live, refusal_of(config, limit));
    used_up += told.allowed ? 0 : 1;
    if (!told.allowed) step.where = limit.where;
    step.reasons.push_back({std::move(told.text), limit.where});
  }
  if (!step.reasons.empty())
    step.verdict = used_up > 0 ? number_of(used_up, "limit is used up", "limits are used up")
                               : number_of(step.reasons.size(), "limit counts", "limits count") +
                                     " by the client alone";
  return step;
}

}  // namespace sluice::policy::explaining
