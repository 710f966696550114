#include "kernel/guard_tables.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "kernel/guard_places.h"
#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {

sluice_guard_key4 key4(const Prefix& prefix) {
  sluice_guard_key4 key{};
  key.length = prefix.length - 96U;
  std::memcpy(key.address, prefix.address.data() + 12, 4);
  return key;
}

sluice_guard_key6 key6(const Prefix& prefix) {
  sluice_guard_key6 key{};
  key.length = prefix.length;
  std::memcpy(key.address, prefix.address.data(), 16);
  return key;
}

namespace {

// --- addresses
// -------------------------------------------------------------------------------------

// Orders by address, then the shorter prefix first, so that what covers a prefix comes before it.
// The longest match of a trie is one entry, so an entry carries what all that cover it say.
template <typename Value, typename Emit>
void cover(const std::map<std::pair<std::array<std::uint8_t, 16>, std::uint8_t>, Value>& own,
           bool v4, const Value& base, Emit emit) {
  std::vector<std::pair<Prefix, Value>> above;
  for (const auto& [key, value] : own) {
    const Prefix prefix{key.first, key.second, v4};
    while (!above.empty() && !covers(above.back().first, prefix))
      above.pop_back();
    Value sum = above.empty() ? base : above.back().second;
    sum |= value;
    emit(prefix, sum);
    above.emplace_back(prefix, sum);
  }
}

template <typename Value>
using ByPrefix = std::map<std::pair<std::array<std::uint8_t, 16>, std::uint8_t>, Value>;

// --- ports
// -----------------------------------------------------------------------------------------

std::vector<PortRange> merged(std::vector<PortRange> ranges) {
  std::ranges::sort(ranges);
  std::vector<PortRange> out;
  for (const PortRange& range : ranges) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

struct PortEdge {
  std::uint32_t port;
  std::size_t rule;
  bool except;
  bool begins;
};

struct PortField {
  std::vector<PortRange> GuardMatch::*field;
  std::uint32_t uses;
  std::uint32_t sluice_guard_slot::*without;
  std::uint16_t sluice_guard_slot::*without_live;
  std::uint16_t sluice_guard_port::*class_of;
  std::uint16_t sluice_guard_port::*live;
};

void compile_ports(const std::vector<GuardRule>& rules, const PortField& f, GuardClasses& classes,
                   GuardTables& out) {
  std::vector<PortEdge> edges;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    for (const bool except : {false, true}) {
      for (const PortRange& range : merged((except ? rules[i].except : rules[i].match).*f.field)) {
        edges.push_back({range.first, i, except, true});
        edges.push_back({range.last + 1U, i, except, false});
      }
    }
  }
  if (!edges.empty()) out.slot.flags |= f.uses;
  RuleBits bits = without_field(rules, f.field);
  out.slot.*f.without = classes.id_of(bits);
  out.slot.*f.without_live = static_cast<std::uint16_t>(classes.live(out.slot.*f.without));
  std::ranges::sort(edges, {}, &PortEdge::port);
  std::size_t next = 0;
  std::uint16_t id = 0;
  std::uint16_t live = 0;
  for (std::uint32_t port = 0; port < SLUICE_GUARD_PORTS; ++port) {
    if (port == 0 || (next < edges.size() && edges[next].port == port)) {
      for (; next < edges.size() && edges[next].port == port; ++next) {
        RuleBits::set(edges[next].except ? bits.except : bits.match, edges[next].rule,
                      edges[next].begins);
      }
      id = static_cast<std::uint16_t>(classes.id_of(bits));
      live = static_cast<std::uint16_t>(classes.live(id));
    }
    out.ports[port].*f.class_of = id;
    out.ports[port].*f.live = live;
  }
}

// --- the rest
// --------------------------------------------------------------------------------------

void compile_protocols(const std::vector<GuardRule>& rules, GuardClasses& classes,
                       GuardTables& out) {
  RuleBits base;
  std::map<std::uint8_t, std::vector<std::size_t>> own;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (has_exception(rules[i])) RuleBits::set(base.except, i);
    if (rules[i].protocol) {
      own[*rules[i].protocol].push_back(i);
    } else {
      RuleBits::set(base.match, i);
    }
  }
  if (!own.empty()) out.slot.flags |= SLUICE_GUARD_USES_PROTOCOL;
  const auto place = [&](auto& entry, const RuleBits& bits) {
    entry.id = classes.id_of(bits);
    entry.live = static_cast<std::uint32_t>(classes.live(entry.id));
  };
  for (auto& entry : out.slot.protocol_class)
    place(entry, base);
  for (const auto& [protocol, named] : own) {
    RuleBits bits = base;
    for (const std::size_t rule : named)
      RuleBits::set(bits.match, rule);
    place(out.slot.protocol_class[protocol], bits);
  }
}

sluice_guard_rate to_rate(const PacketRate& rate) {
  const auto packets = std::max<std::uint64_t>(rate.packets, 1);
  const auto per = static_cast<std::uint64_t>(std::max<std::int64_t>(rate.per.count(), 1));
  return {std::max<std::uint64_t>(per / packets, 1), std::max<std::uint64_t>(rate.burst, 1)};
}

void compile_actions(const std::vector<GuardRule>& rules, std::span<const std::uint16_t> counters,
                     GuardTables& out) {
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const GuardRule& rule = rules[i];
    const std::uint64_t bit = 1ULL << (i % 64);
    if (rule.action == GuardAction::drop) out.slot.drop[i / 64] |= bit;
    if (rule.audit) out.slot.audit[i / 64] |= bit;
    out.slot.counter[i] = counters[i];
    if (rule.action != GuardAction::limit || !rule.rate) continue;
    out.slot.limit[i / 64] |= bit;
    out.slot.flags |= SLUICE_GUARD_USES_LIMITS;
    out.rates.resize(rules.size());
    out.rates[i] = to_rate(*rule.rate);
  }
  out.slot.rules = static_cast<std::uint32_t>(rules.size());
}

void compile_switches(const GuardPlan& plan, sluice_guard_slot& slot) {
  if (plan.source_syn) {
    slot.flags |= SLUICE_GUARD_USES_SOURCE_SYN;
    slot.source_syn = to_rate(*plan.source_syn);
  }
  if (plan.service_syn) {
    slot.flags |= SLUICE_GUARD_USES_SERVICE_SYN;
    slot.service_syn = to_rate(*plan.service_syn);
  }
  if (plan.audit_syn) slot.flags |= SLUICE_GUARD_AUDITS_SYN;
  if (plan.monitor_services) slot.flags |= SLUICE_GUARD_MONITORS_SERVICES;
  if (plan.monitor_sources) slot.flags |= SLUICE_GUARD_MONITORS_SOURCES;
}

// Class 0, which every field that no rule uses has.
void compile_all(const std::vector<GuardRule>& rules, GuardClasses& classes, GuardTables& out) {
  RuleBits all;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    RuleBits::set(all.match, i);
    if (has_exception(rules[i])) RuleBits::set(all.except, i);
  }
  out.slot.all = to_class(all);
  (void)classes.id_of(all);
}

// Elsewhere than on interfaces that have an entry: rules that name none.
void compile_default_places(const std::vector<GuardRule>& rules, sluice_guard_slot& slot) {
  for (const bool egress : {false, true}) {
    slot.place[egress ? 1 : 0] =
        place_class(rules, egress, [](const GuardRule& rule) { return !rule.interfaces; });
  }
  if (std::ranges::any_of(rules, [](const GuardRule& rule) { return rule.interfaces.has_value(); }))
    slot.flags |= SLUICE_GUARD_USES_INTERFACES;
}

Result<void> compile_protect(const std::vector<Protect>& protect, GuardTables& out) {
  std::map<std::pair<std::vector<PortRange>, std::vector<std::string>>, int> groups;
  std::array<ByPrefix<std::uint64_t>, 2> own;
  for (const Protect& entry : protect) {
    const auto [at, added] = groups.try_emplace({merged(entry.to_ports), entry.interfaces},
                                                static_cast<int>(groups.size()));
    if (groups.size() > SLUICE_GUARD_MAX_PROTECT_GROUPS) {
      return std::unexpected(
          Error{message("protect.from has more than {} different combinations of to_ports and "
                        "interfaces; let entries share them",
                        SLUICE_GUARD_MAX_PROTECT_GROUPS)});
    }
    own[entry.peer.v4][{entry.peer.address, entry.peer.length}] |= 1ULL << at->second;
  }
  for (const auto& [key, group] : groups) {
    const std::uint64_t bit = 1ULL << group;
    const auto& [ports, interfaces] = key;
    if (ports.empty()) out.slot.protect_any_port |= bit;
    for (const PortRange& range : ports) {
      for (std::uint32_t port = range.first; port <= range.last; ++port)
        out.ports[port].protect_groups |= bit;
    }
    if (interfaces.empty()) {
      out.slot.protect_any_interface |= bit;
    } else {
      out.interfaces.push_back({interfaces, bit});
    }
  }
  const std::uint64_t none = 0;
  cover(own[1], true, none,
        [&](const Prefix& p, std::uint64_t bits) { out.protect4.emplace_back(key4(p), bits); });
  cover(own[0], false, none,
        [&](const Prefix& p, std::uint64_t bits) { out.protect6.emplace_back(key6(p), bits); });
  return {};
}

}  // namespace

std::expected<GuardTables, Refused> compile_guard(const GuardPlan& plan,
                                                  std::span<const std::uint16_t> counters,
                                                  const std::vector<Protect>& protect,
                                                  const std::vector<std::uint16_t>& host_ports) {
  const auto refuse = [](const char* table, Error error) {
    return std::unexpected(Refused{table, std::move(error)});
  };
  const std::vector<GuardRule>& rules = plan.rules;
  if (rules.size() > SLUICE_GUARD_MAX_RULES) {
    return refuse(
        "guard_rules",
        {message("guard.rules has {} rules, and {} is the most; a rule takes many prefixes and "
                 "ports, so join those with the same action",
                 rules.size(), SLUICE_GUARD_MAX_RULES)});
  }
  GuardTables out;
  out.ports.resize(SLUICE_GUARD_PORTS);
  GuardClasses classes;
  compile_all(rules, classes, out);
  compile_actions(rules, counters, out);
  compile_switches(plan, out.slot);
  compile_default_places(rules, out.slot);
  // Ports first: their classes are kept in 16 bits.
  compile_ports(rules,
                {&GuardMatch::from_ports, SLUICE_GUARD_USES_FROM_PORTS,
                 &sluice_guard_slot::default_from_port, &sluice_guard_slot::default_from_port_live,
                 &sluice_guard_port::from_class, &sluice_guard_port::from_live},
                classes, out);
  compile_ports(rules,
                {&GuardMatch::to_ports, SLUICE_GUARD_USES_TO_PORTS,
                 &sluice_guard_slot::default_to_port, &sluice_guard_slot::default_to_port_live,
                 &sluice_guard_port::to_class, &sluice_guard_port::to_live},
                classes, out);
  if (classes.size() > SLUICE_GUARD_PORTS) {
    return refuse("guard_classes",
                  {"guard.rules name ports in too many different combinations; join port ranges"});
  }
  compile_protocols(rules, classes, out);
  for (const auto& [field, which, flag] :
       {std::tuple{kFromField, SLUICE_GUARD_FROM, SLUICE_GUARD_USES_FROM},
        std::tuple{kToField, SLUICE_GUARD_TO, SLUICE_GUARD_USES_TO}}) {
    const auto named = [&field](const GuardRule& rule) {
      return has_field(rule.match, field) || has_field(rule.except, field);
    };
    // A field that some rule has must be asked for packets of both versions: the rule is out for
    // the other one.
    if (!std::ranges::any_of(rules, named)) continue;
    auto tables = compile_prefixes(rules, field, classes);
    if (!tables) return refuse("guard_prefixes6", tables.error());
    out.slot.flags |= static_cast<std::uint32_t>(flag);
    out.slot.prefixes[which] = tables->config;
    out.prefixes[which] = std::move(*tables);
  }
  if (classes.size() > SLUICE_GUARD_MAX_CLASSES) {
    return refuse("guard_classes", {message("prefixes of guard.rules overlap in {} different ways, "
                                            "more than a table takes; join rules",
                                            classes.size())});
  }
  out.classes = classes.list();
  out.index = std::move(classes);
  for (const std::uint16_t port : host_ports)
    out.ports[port].protect_groups |= SLUICE_GUARD_HOST_PORT;
  if (auto ok = compile_protect(protect, out); !ok) return refuse("guard_protect", ok.error());
  return out;
}

}  // namespace sluice::kernel
