// The kernel's phases: protect, bans, guard, intercept.
#include <algorithm>

#include "policy/drop_rules.h"
#include "policy/explain/steps.h"

namespace sluice::policy::explaining {

namespace {

PacketView view_of(const PacketDescription& packet) {
  PacketView view{packet.from, packet.to, packet.protocol, std::nullopt, std::nullopt, false, {}};
  if (has_ports(packet.protocol) && packet.first_fragment) {
    view.from_port = packet.from_port;
    view.to_port = packet.to_port;
  }
  view.egress = packet.direction == PacketDirection::egress;
  view.interface = packet.interface;
  return view;
}

// ", by set `blocklist`", where that is what made it match.
std::string by_set(const GuardRule& rule, const PacketView& packet) {
  std::string text;
  for (const auto& [match, address] :
       {std::pair{&rule.match.from, packet.from}, std::pair{&rule.match.to, packet.to}}) {
    if (const SetReference* set = match->set_with(address))
      text += ", by set `" + set->name + "`";
  }
  return text;
}

// What a rule that matches does.
std::string effect(const GuardConfig& guard, const GuardRule& rule) {
  const bool audit = guard.mode == GuardMode::audit || rule.mode == GuardMode::audit;
  switch (rule.action) {
    case GuardAction::count:
      return "matches, and only counts";
    case GuardAction::limit:
      return std::string("matches, and drops what is beyond its rate") + (audit ? " (audit)" : "");
    case GuardAction::drop:
      return audit ? "matches, but is on audit" : "matches";
  }
  return "";
}

bool on_interface(const std::vector<std::string>& names, const std::string& name) {
  return names.empty() || name.empty() || std::ranges::find(names, name) != names.end();
}

bool has_port(const std::vector<PortRange>& ranges, std::uint16_t port) {
  return std::ranges::any_of(ranges, [&](const PortRange& range) { return range.contains(port); });
}

const Endpoint* upstream_endpoint(const Config& config, const IpAddress& address) {
  for (const Upstream& upstream : config.upstreams) {
    const auto found = std::ranges::find_if(upstream.endpoints, [&](const Endpoint& endpoint) {
      return !endpoint.is_name() && endpoint.address.address == address;
    });
    if (found != upstream.endpoints.end()) return &*found;
  }
  return nullptr;
}

std::string words(RuleMismatch mismatch) {
  switch (mismatch) {
    case RuleMismatch::none:
      return "matches";
    case RuleMismatch::from:
      return "`from` does not hold the source";
    case RuleMismatch::to:
      return "`to` does not hold the destination";
    case RuleMismatch::protocol:
      return "another protocol";
    case RuleMismatch::from_ports:
      return "`from_ports` does not hold the source port";
    case RuleMismatch::to_ports:
      return "`to_ports` does not hold the destination port";
    case RuleMismatch::ip_version:
      return "its protocol is of the other IP version";
    case RuleMismatch::direction:
      return "it looks the other way (direction)";
    case RuleMismatch::interface:
      return "another interface";
    case RuleMismatch::except:
      return "its `except` holds";
  }
  return "";
}

Step protected_step(std::string verdict, Location where) {
  return {"protect", std::move(verdict), std::move(where), {}, false};
}

}  // namespace

Step protect(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live) {
  const Config& config = snapshot.config();
  const bool inwards = packet.direction == PacketDirection::ingress;
  const IpAddress& peer = inwards ? packet.from : packet.to;
  const PacketView view = view_of(packet);
  for (const ProtectFrom& entry : config.protect.from) {
    const bool ports =
        entry.to_ports.empty() || (view.to_port && has_port(entry.to_ports, *view.to_port));
    if (!entry.cidr.contains(peer) || !ports || !on_interface(entry.interfaces, packet.interface))
      continue;
    return protected_step("protected: the peer is in " + entry.cidr.to_string(), entry.where);
  }
  if (const Endpoint* endpoint = upstream_endpoint(config, peer)) {
    return protected_step("protected: the peer is an upstream's endpoint", endpoint->where);
  }
  const bool ours = std::ranges::find(live.node_addresses, packet.to) != live.node_addresses.end();
  if (inwards && ours && view.to_port &&
      std::ranges::find(config.protect.host_ports, *view.to_port) !=
          config.protect.host_ports.end()) {
    return protected_step("protected: port " + std::to_string(*view.to_port) +
                              " of the node itself (protect.host_ports)",
                          {});
  }
  return protected_step("not protected", {});
}

Step bans(const PacketDescription& packet, const LiveState& live) {
  for (const LiveState::Ban& ban : live.bans) {
    if (!ban.source.contains(packet.from)) continue;
    return {
        "bans", "dropped: " + ban.source.to_string() + " is banned", {}, {{ban.reason, {}}}, true};
  }
  return {"bans", "the source is not banned", {}, {}, false};
}

Step guard(const Snapshot& snapshot, const PacketDescription& packet) {
  const Config& config = snapshot.config();
  if (!config.guard) return {"guard", "the policy has no guard rules", {}, {}, false};
  const PacketView view = view_of(packet);
  const GuardVerdict verdict = evaluate(*config.guard, view);
  Step step{"guard", "no rule drops it", {}, {}, false};
  std::size_t silent = 0;
  for (const GuardRule& rule : config.guard->rules) {
    const RuleMismatch why = mismatch(rule, view);
    if (why != RuleMismatch::none && step.reasons.size() >= kMostReasons) {
      ++silent;
      continue;
    }
    const std::string text = why == RuleMismatch::none
                                 ? effect(*config.guard, rule) + by_set(rule, view)
                                 : words(why);
    step.reasons.push_back({"rule `" + rule.name + "`: " + text, rule.where});
  }
  if (silent > 0) {
    step.reasons.push_back({std::to_string(silent) + " further rules do not match", {}});
  }
  if (verdict.dropped_by) {
    const GuardRule& rule = config.guard->rules[*verdict.dropped_by];
    step.verdict = "dropped by rule `" + rule.name + "`";
    step.where = rule.where;
    step.final = true;
  }
  return step;
}

namespace {

bool holds(const std::vector<Prefix>& prefixes, const IpAddress& address) {
  return std::ranges::any_of(prefixes,
                             [&](const Prefix& prefix) { return prefix.contains(address); });
}

bool in_cgroup(const std::vector<std::string>& cgroups, const std::string& cgroup) {
  return cgroups.empty() || std::ranges::any_of(cgroups, [&](const std::string& known) {
           return cgroup == known || cgroup.starts_with(known + "/");
         });
}

// Empty: it catches the packet.
std::string why_not(const Intercept& entry, const PacketDescription& packet) {
  if (!entry.from.empty() && !holds(entry.from, packet.from))
    return "`from` does not hold the source";
  if (!holds(entry.to, packet.to)) return "`to` does not hold the destination";
  if (!has_port(entry.ports, packet.to_port)) return "`ports` does not hold the destination port";
  if (!in_cgroup(entry.cgroups, packet.cgroup)) return "`cgroups` does not hold the process";
  const InterceptExcept& except = entry.except;
  const bool named = !except.from.empty() || !except.to.empty();
  if (named && (except.from.empty() || holds(except.from, packet.from)) &&
      (except.to.empty() || holds(except.to, packet.to))) {
    return "its `except` holds";
  }
  return "";
}

// sk_lookup prefers the longest prefix, then the narrowest ports.
int specificity(const Intercept& entry, const PacketDescription& packet) {
  int best = 0;
  for (const Prefix& prefix : entry.to) {
    if (!prefix.contains(packet.to)) continue;
    for (const PortRange& ports : entry.ports) {
      if (!ports.contains(packet.to_port)) continue;
      best = std::max(best, (prefix.length + 1) * 0x10000 + 0xffff - (ports.last - ports.first));
    }
  }
  return best;
}

struct Catch {
  const Intercept* entry = nullptr;
  std::vector<Reason> reasons;
};

Catch look(const std::vector<Intercept>& entries, const char* way,
           const PacketDescription& packet) {
  Catch found;
  for (const Intercept& entry : entries) {
    const std::string mismatch = why_not(entry, packet);
    const bool better = mismatch.empty() && (!found.entry || specificity(entry, packet) >
                                                                 specificity(*found.entry, packet));
    if (better) found.entry = &entry;
    if (found.reasons.size() < kMostReasons) {
      found.reasons.push_back(
          {std::string("intercept.") + way + ": " + (mismatch.empty() ? "matches" : mismatch),
           entry.where});
    }
  }
  return found;
}

const Listener* bound_listener(const Config& config, const PacketDescription& packet) {
  for (const Listener& listener : config.listeners) {
    if (!listener.bind || listener.bind->port != packet.to_port) continue;
    const IpAddress& address = listener.bind->address;
    const bool same_version = address.is_v4() == packet.to.is_v4();
    if (address == packet.to || (address.is_unspecified() && same_version)) return &listener;
  }
  return nullptr;
}

}  // namespace

Step intercept(const Snapshot& snapshot, const PacketDescription& packet) {
  constexpr std::uint8_t kTcp = 6;
  const Config& config = snapshot.config();
  Step step{"intercept", "not caught: it goes on as if there were no Sluice", {}, {}, true};
  if (packet.protocol != kTcp) return step;
  const auto look_at = [&](Way way, const std::vector<Intercept>& entries, const char* name) {
    if ((packet.way && *packet.way != way) || (!packet.way && way == Way::output)) return false;
    Catch found = look(entries, name, packet);
    std::ranges::move(found.reasons, std::back_inserter(step.reasons));
    if (!found.entry) return false;
    step.verdict =
        std::string("caught (") + name + ") for listener `" + found.entry->listener + "`";
    step.where = found.entry->where;
    step.final = false;
    return true;
  };
  if (look_at(Way::local, config.intercept.local, "local") ||
      look_at(Way::forward, config.intercept.forward, "forward") ||
      look_at(Way::output, config.intercept.output, "output")) {
    return step;
  }
  if (const Listener* listener = bound_listener(config, packet)) {
    step.verdict = "bound by listener `" + listener->name + "`";
    step.where = listener->where;
    step.final = false;
  }
  return step;
}

}  // namespace sluice::policy::explaining
