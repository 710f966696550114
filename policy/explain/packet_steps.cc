// The kernel's phases: protect, bans, guard, intercept.
#include <algorithm>

#include "policy/cgroup.h"
#include "policy/drop_rules.h"
#include "policy/explain/steps.h"
#include "policy/ip_protocols.h"
#include "policy/units.h"

namespace sluice::policy {

PacketView view_of(const PacketDescription& packet, const LiveState& live) {
  PacketView view{packet.from, packet.to, packet.protocol, std::nullopt, std::nullopt, false, {}};
  if (has_ports(packet.protocol) && packet.first_fragment) {
    view.from_port = packet.from_port;
    view.to_port = packet.to_port;
  }
  view.egress = packet.direction == PacketDirection::egress;
  view.interface = packet.interface;
  if (live.auto_interfaces)
    view.on_auto =
        std::ranges::find(*live.auto_interfaces, packet.interface) != live.auto_interfaces->end();
  return view;
}

namespace explaining {

namespace {

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

// No list: any, also what has no ports.
bool holds_port(const std::vector<PortRange>& ranges, const std::optional<std::uint16_t>& port) {
  return ranges.empty() || (port && has_port(ranges, *port));
}

bool is_host_port(const Config& config, std::uint16_t port) {
  return std::ranges::find(config.protect.host_ports, port) != config.protect.host_ports.end();
}

bool is_of_node(const LiveState& live, const IpAddress& address) {
  return std::ranges::find(live.node_addresses, address) != live.node_addresses.end();
}

// RFC 2131: both ends use 67 and 68. RFC 8415: to 546 or 547.
bool is_dhcp(const PacketView& view) {
  if (view.protocol != kUdp || !view.to_port) return false;
  const auto v4 = [](std::uint16_t port) { return port == 67 || port == 68; };
  if (view.from.is_v4()) return v4(*view.to_port) && v4(*view.from_port);
  return *view.to_port == 546 || *view.to_port == 547;
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

std::string words(RuleMismatch mismatch, const GuardRule& rule) {
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
      return rule.interfaces ? "another interface" : "another interface (guard.interfaces)";
    case RuleMismatch::except:
      return "its `except` holds";
  }
  return "";
}

// A rule that matches may do so only because nothing says which interfaces `auto` stands for.
bool rests_on_auto(const GuardConfig& guard, const PacketView& packet) {
  if (packet.interface.empty() || packet.on_auto) return false;
  return std::ranges::any_of(guard.rules, [&](const GuardRule& rule) {
    return interfaces_of(guard, rule).empty() &&
           mismatch(guard, rule, packet) == RuleMismatch::none;
  });
}

Step protected_step(std::string verdict, Location where) {
  return {"protect", std::move(verdict), std::move(where), {}, false};
}

}  // namespace

Step protect(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live) {
  const Config& config = snapshot.config();
  const PacketView view = view_of(packet, live);
  if (is_dhcp(view)) return protected_step("protected: DHCP", {});
  // What the node sends is looked at from the other side, as guard_protect.bpf.h has it: the port
  // is the node's own.
  const bool inwards = packet.direction == PacketDirection::ingress;
  const IpAddress& peer = inwards ? packet.from : packet.to;
  const IpAddress& own = inwards ? packet.to : packet.from;
  const auto& own_port = inwards ? view.to_port : view.from_port;
  for (const ProtectFrom& entry : config.protect.from) {
    if (!entry.cidr.contains(peer) || !holds_port(entry.to_ports, own_port) ||
        !on_interface(entry.interfaces, packet.interface))
      continue;
    return protected_step("protected: the peer is in " + entry.cidr.to_string(), entry.where);
  }
  for (const LiveState::BuiltIn& entry : live.built_in) {
    if (entry.peer.contains(peer))
      return protected_step("protected: the peer is " + entry.what, {});
  }
  if (const Endpoint* endpoint = upstream_endpoint(config, peer)) {
    return protected_step("protected: the peer is an upstream's endpoint", endpoint->where);
  }
  if (own_port && is_host_port(config, *own_port) && is_of_node(live, own)) {
    return protected_step("protected: port " + std::to_string(*own_port) +
                              " of the node itself (protect.host_ports)",
                          {});
  }
  return protected_step(kNotProtected, {});
}

Step bans(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live) {
  if (packet.direction == PacketDirection::egress)
    return {"bans", "bans look at what comes in", {}, {}, false};
  const auto& guard = snapshot.config().guard;
  if (guard && !looks_at_ingress(*guard, view_of(packet, live)))
    return {"bans",
            "the guard, and bans with it, does not look at `" + packet.interface +
                "` (guard.interfaces)",
            guard->where,
            {},
            false};
  for (const LiveState::Ban& ban : live.bans) {
    if (!ban.source.contains(packet.from)) continue;
    return {
        "bans", "dropped: " + ban.source.to_string() + " is banned", {}, {{ban.reason, {}}}, true};
  }
  return {"bans", "the source is not banned", {}, {}, false};
}

Step guard(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live) {
  const Config& config = snapshot.config();
  if (!config.guard) return {"guard", "the policy has no guard rules", {}, {}, false};
  const PacketView view = view_of(packet, live);
  const GuardVerdict verdict = evaluate(*config.guard, view);
  Step step{"guard", "no rule drops it", {}, {}, false};
  std::size_t silent = 0;
  for (const GuardRule& rule : config.guard->rules) {
    const RuleMismatch why = mismatch(*config.guard, rule, view);
    if (why != RuleMismatch::none && step.reasons.size() >= kMostReasons) {
      ++silent;
      continue;
    }
    const std::string text = why == RuleMismatch::none
                                 ? effect(*config.guard, rule) + by_set(rule, view)
                                 : words(why, rule);
    step.reasons.push_back({"rule `" + rule.name + "`: " + text, rule.where});
  }
  if (silent > 0) {
    step.reasons.push_back({std::to_string(silent) + " further rules do not match", {}});
  }
  if (rests_on_auto(*config.guard, view))
    step.reasons.push_back({"interfaces: auto: `" + packet.interface +
                                "` is taken for one with a default route, which is not known here",
                            config.guard->where});
  if (verdict.dropped_by) {
    const GuardRule& rule = config.guard->rules[*verdict.dropped_by];
    step.verdict = "dropped by rule `" + rule.name + "`";
    step.where = rule.where;
    step.final = true;
    step.name = rule.name;
  }
  return step;
}

namespace {

std::string shown(const PacketRate& rate) {
  return std::to_string(rate.count) + " in " + format_duration(rate.period) + ", burst " +
         std::to_string(rate.burst);
}

}  // namespace

std::optional<Step> syn_rate(const Snapshot& snapshot, const PacketDescription& packet,
                             const LiveState& live) {
  const Config& config = snapshot.config();
  const bool syn = packet.protocol == kTcp && packet.first_fragment &&
                   packet.direction == PacketDirection::ingress;
  if (!syn || !config.guard || (!config.guard->source_syn && !config.guard->service_syn) ||
      !looks_at_ingress(*config.guard, view_of(packet, live)))
    return std::nullopt;
  Step step{"syn_rate", "passes while its rates hold", config.guard->where, {}, false};
  if (config.guard->source_syn)
    step.reasons.push_back({"per_source: SYNs of one source, " + shown(*config.guard->source_syn),
                            config.guard->where});
  if (config.guard->service_syn)
    step.reasons.push_back({"per_service: SYNs to one address and port, " +
                                shown(*config.guard->service_syn),
                            config.guard->where});
  if (config.guard->mode == GuardMode::audit) step.verdict = "passes; its rates are on audit";
  return step;
}

namespace {

bool holds(const std::vector<Prefix>& prefixes, const IpAddress& address) {
  return std::ranges::any_of(prefixes,
                             [&](const Prefix& prefix) { return prefix.contains(address); });
}

bool names_cgroup(const std::vector<std::string>& cgroups, const std::string& cgroup) {
  return cgroups.empty() || std::ranges::any_of(cgroups, [&](const std::string& known) {
           return in_cgroup(cgroup, known);
         });
}

std::pair<const std::vector<Intercept>*, const char*> entries_of(const Config& config, Way way) {
  if (way == Way::local) return {&config.intercept.local, "local"};
  if (way == Way::forward) return {&config.intercept.forward, "forward"};
  return {&config.intercept.output, "output"};
}

// Empty: it catches the packet.
std::string why_not(const Intercept& entry, const PacketDescription& packet) {
  if (!entry.from.empty() && !holds(entry.from, packet.from))
    return "`from` does not hold the source";
  if (!holds(entry.to, packet.to)) return "`to` does not hold the destination";
  if (!has_port(entry.ports, packet.to_port)) return "`ports` does not hold the destination port";
  if (!names_cgroup(entry.cgroups, packet.cgroup)) return "`cgroups` does not hold the process";
  if (holds(entry.except.from, packet.from)) return "`except.from` holds the source";
  if (holds(entry.except.to, packet.to)) return "`except.to` holds the destination";
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

// Protect's word for interception: `leaves` says whose connections are left alone.
std::string left_alone(const Config& config, const PacketDescription& packet, Way way,
                       const LiveState& live) {
  const auto covers = [&](const Prefix& prefix, const std::vector<PortRange>& ports, bool client) {
    const std::optional<std::uint16_t> port = packet.to_port;
    if (!holds_port(ports, port)) return false;
    return prefix.contains(packet.to) || (client && prefix.contains(packet.from));
  };
  for (const ProtectFrom& entry : config.protect.from) {
    if (!on_interface(entry.interfaces, packet.interface)) continue;
    if (covers(entry.cidr, entry.to_ports, way == Way::forward))
      return "protect.from holds " + entry.cidr.to_string();
  }
  for (const LiveState::BuiltIn& entry : live.built_in) {
    if (covers(entry.peer, entry.to_ports, false)) return "the peer is " + entry.what;
  }
  return "";
}

// What of the node's own addresses stays the host's, whatever a local entry says.
std::string left_to_host(const Config& config, const Intercept& entry,
                         const PacketDescription& packet, const LiveState& live) {
  if (!is_of_node(live, packet.to)) return "";
  for (const ProtectFrom& kept : config.protect.from) {
    if (kept.cidr.contains(packet.from) && holds_port(kept.to_ports, packet.to_port) &&
        on_interface(kept.interfaces, packet.interface))
      return "a protected client on the node's own address (protect.from)";
  }
  if (!entry.take_over && is_host_port(config, packet.to_port))
    return "the host's own port (protect.host_ports)";
  return "";
}

struct Catch {
  const Intercept* entry = nullptr;
  std::vector<Reason> reasons;
};

Catch look(const Config& config, Way way, const PacketDescription& packet,
           const LiveState& live) {
  const auto& [entries, name] = entries_of(config, way);
  Catch found;
  for (const Intercept& entry : *entries) {
    std::string mismatch = why_not(entry, packet);
    if (mismatch.empty() && way == Way::local)
      mismatch = left_to_host(config, entry, packet, live);
    const bool better = mismatch.empty() && (!found.entry || specificity(entry, packet) >
                                                                 specificity(*found.entry, packet));
    if (better) found.entry = &entry;
    if (found.reasons.size() < kMostReasons) {
      found.reasons.push_back(
          {std::string("intercept.") + name + ": " + (mismatch.empty() ? "matches" : mismatch),
           entry.where});
    }
  }
  return found;
}

// Addresses of the node, and what local entries name, are local's alone.
bool is_local(const Config& config, const PacketDescription& packet, const LiveState& live) {
  return is_of_node(live, packet.to) ||
         std::ranges::any_of(config.intercept.local, [&](const Intercept& entry) {
           return holds(entry.to, packet.to);
         });
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

InterceptStep intercept(const Snapshot& snapshot, const PacketDescription& packet,
                        const LiveState& live) {
  const Config& config = snapshot.config();
  InterceptStep result;
  Step& step = result.step;
  step = {"intercept", "not caught: it goes on as if there were no Sluice", {}, {}, true};
  const bool own_output = packet.way == Way::output;
  const bool outwards = packet.direction == PacketDirection::egress;
  if (packet.protocol != kTcp || (outwards && !own_output)) return result;
  const auto look_at = [&](Way way) {
    if ((packet.way && *packet.way != way) || (!packet.way && way == Way::output)) return false;
    if (way != Way::local) {
      const std::string left = is_local(config, packet, live)
                                   ? "the destination is the node's own, or intercept.local's"
                                   : left_alone(config, packet, way, live);
      if (!left.empty()) {
        if (!entries_of(config, way).first->empty()) step.reasons.push_back({left, {}});
        return false;
      }
    }
    Catch found = look(config, way, packet, live);
    std::ranges::move(found.reasons, std::back_inserter(step.reasons));
    if (!found.entry) return false;
    step.verdict = std::string("caught (") + entries_of(config, way).second + ") for listener `" +
                   found.entry->listener + "`";
    step.where = found.entry->where;
    step.final = false;
    step.name = found.entry->listener;
    result.entry = found.entry;
    result.way = way;
    result.listener = snapshot.find_listener(found.entry->listener);
    return true;
  };
  if (look_at(Way::local) || look_at(Way::forward) || look_at(Way::output)) return result;
  const Listener* listener = own_output ? nullptr : bound_listener(config, packet);
  if (listener != nullptr) {
    step.verdict = "bound by listener `" + listener->name + "`";
    step.where = listener->where;
    step.final = false;
    step.name = listener->name;
    result.listener = snapshot.find_listener(listener->name);
  }
  return result;
}

Step steering(const InterceptStep& caught, const LiveState& live) {
  if (caught.entry == nullptr)
    return {"steering", "none is needed: the listener's own address", {}, {}, false};
  const Intercept& entry = *caught.entry;
  Step step{"steering", "", entry.where, {}, false};
  const auto known = std::ranges::find(live.steering, entry.where, &LiveState::Steering::where);
  if (known != live.steering.end()) {
    step.verdict = "by " + known->by;
  } else {
    step.verdict = entry.steering == SteerBy::tproxy      ? "by tproxy"
                   : entry.steering == SteerBy::sk_lookup ? "by sk_lookup"
                   : entry.steering == SteerBy::tc        ? "by a program at TC ingress"
                                                          : "by sk_lookup, or tproxy where the "
                                                            "kernel has none (auto)";
  }
  if (caught.way == Way::local) {
    step.reasons.push_back({"while no gateway serves, connections wait in the listener's queue",
                            entry.where});
  } else if (entry.on_exit == OnExit::bypass) {
    step.reasons.push_back({"while no gateway serves, new connections flow straight "
                            "(on_exit: bypass) once the lease of " +
                                format_duration(entry.lease) + " has run out",
                            entry.where});
  } else {
    step.reasons.push_back({"while no gateway serves, new connections wait or fail "
                            "(on_exit: closed)",
                            entry.where});
  }
  return step;
}

}  // namespace explaining

}  // namespace sluice::policy
