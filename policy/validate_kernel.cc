// Cross-checks of what the kernel will hold: interception and guard.
#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "policy/cgroup.h"
#include "policy/ip_protocols.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

bool overlap(const Prefix& a, const Prefix& b) {
  return a.contains(b) || b.contains(a);
}
bool overlap(const PortRange& a, const PortRange& b) {
  return a.first <= b.last && b.first <= a.last;
}

// Empty means any.
template <typename T>
bool overlap(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.empty() || b.empty()) return true;
  return std::ranges::any_of(a, [&](const T& x) {
    return std::ranges::any_of(b, [&](const T& y) { return overlap(x, y); });
  });
}

bool share_cgroup(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  if (a.empty() || b.empty()) return true;
  return std::ranges::any_of(a, [&](const std::string& x) {
    return std::ranges::any_of(b,
                               [&](const std::string& y) { return in_cgroup(x, y) || in_cgroup(y, x); });
  });
}

bool any_v4(const std::vector<Prefix>& prefixes) {
  return prefixes.empty() || std::ranges::any_of(prefixes, &Prefix::is_v4);
}
bool any_v6(const std::vector<Prefix>& prefixes) {
  return prefixes.empty() || !std::ranges::all_of(prefixes, &Prefix::is_v4);
}

bool ever_meet(const std::vector<Prefix>& from, const std::vector<Prefix>& to) {
  return (any_v4(from) && any_v4(to)) || (any_v6(from) && any_v6(to));
}

void check_marks(const Marks& marks, const Location& where, Reporter& reporter) {
  const std::uint32_t shifted = marks.mask >> std::countr_zero(marks.mask | 0x80000000u);
  if (std::popcount(marks.mask) < 2 || (shifted & (shifted + 1)) != 0) {
    reporter.error(where, "intercept.marks: `mask` needs at least two adjoining bits and no others",
                   "such as 0x300000");
  } else if (marks.mark != (marks.mask & -marks.mask)) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%x", marks.mask & -marks.mask);
    reporter.error(where, "intercept.marks: `mark` is not the lowest bit of `mask`",
                   std::string("did you mean `mark: ") + text + "`?");
  }
  if (marks.table >= 253 && marks.table <= 255) {
    reporter.error(
        where,
        "intercept.marks: routing table " + std::to_string(marks.table) + " is the system's own",
        "any other number, such as 5177");
  }
}

// Where pods are named, the first entry that does is the one: labels may overlap from one moment to
// the next, and a pod's coming is no reason to refuse a policy.
bool ambiguous(const Intercept& a, const Intercept& b) {
  return a.from_pods.empty() && b.from_pods.empty() && a.listener != b.listener && overlap(a.from, b.from) && overlap(a.to, b.to) &&
         overlap(a.ports, b.ports) && share_cgroup(a.cgroups, b.cgroups);
}

// Traffic that two entries claim for different listeners. Interception has no order, so there is no
// winner.
void check_overlaps(const std::vector<Intercept>& entries, const char* way, Reporter& reporter) {
  constexpr std::size_t kMostCompared = 2000;
  const std::size_t count = std::min(entries.size(), kMostCompared);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (!ambiguous(entries[i], entries[j])) continue;
      reporter.error(entries[i].where,
                     std::string("intercept.") + way + ": the entry at " +
                         entries[j].where.to_string() +
                         " claims some of the same traffic for listener `" + entries[j].listener +
                         "`, this one for `" + entries[i].listener + "`",
                     "make from, to or ports disjoint");
      break;
    }
  }
}

// sk_lookup prefers the longer prefix, then the narrower ports: only what both name alike is
// ambiguous.
void check_local_duplicates(const std::vector<Intercept>& entries, Reporter& reporter) {
  std::map<std::pair<Prefix, PortRange>, const Intercept*> claimed;
  for (const Intercept& entry : entries) {
    for (const Prefix& to : entry.to) {
      for (const PortRange& ports : entry.ports) {
        const auto [other, fresh] = claimed.emplace(std::pair(to, ports), &entry);
        if (fresh || other->second->listener == entry.listener) continue;
        reporter.error(entry.where,
                       "intercept.local: " + to.to_string() + " goes to listener `" +
                           other->second->listener + "` already",
                       "the other entry is at " + other->second->where.to_string());
      }
    }
  }
}

void check_taken_ports(const Config& config, Reporter& reporter) {
  for (const Intercept& entry : config.intercept.local) {
    if (entry.take_over) continue;
    for (const std::uint16_t port : config.protect.host_ports) {
      const bool taken = std::ranges::any_of(
          entry.ports, [&](const PortRange& range) { return range.contains(port); });
      if (!taken) continue;
      reporter.error(entry.where,
                     "intercept.local would take port " + std::to_string(port) +
                         ", which protect.host_ports keeps for the host",
                     "leave it out of `ports`, or say `take_over: true`");
    }
  }
}

void check_versions(const std::vector<Intercept>& entries, const char* way, Reporter& reporter) {
  for (const Intercept& entry : entries) {
    if (ever_meet(entry.from, entry.to)) continue;
    reporter.error(entry.where, std::string("intercept.") + way +
                                    " never matches: `from` and `to` have no IP version in common");
  }
}

void check_quic(const std::vector<Intercept>& entries, const char* way, Reporter& reporter) {
  constexpr std::uint16_t kHttps = 443;
  for (const Intercept& entry : entries) {
    const bool caught = std::ranges::any_of(
        entry.ports, [](const PortRange& range) { return range.contains(kHttps); });
    if (entry.quic == Quic::pass || caught) continue;
    reporter.error(entry.where,
                   std::string("intercept.") + way +
                       ": `quic: block` on an entry that does not catch port 443",
                   "add 443 to `ports`, or remove `quic`");
  }
}

// Both would share the listener's sockets.
void check_steering(const std::vector<Intercept>& entries, const char* way, Reporter& reporter) {
  for (const Intercept& entry : entries) {
    if (entry.steering != SteerBy::tproxy) continue;
    for (const Intercept& other : entries) {
      if (other.steering != SteerBy::sk_lookup || other.listener != entry.listener) continue;
      reporter.error(entry.where,
                     std::string("intercept.") + way + ": listener `" + entry.listener +
                         "` cannot have both steering tproxy and sk_lookup",
                     "the other entry is at " + other.where.to_string());
    }
  }
}

// A program at TC has no part of netfilter, and sees every packet that comes in: it cannot leave
// some entries to nftables.
void check_tc(const Config& config, Reporter& reporter) {
  const InterceptConfig& intercept = config.intercept;
  const auto first = std::ranges::find(intercept.forward, SteerBy::tc, &Intercept::steering);
  if (first == intercept.forward.end()) return;
  for (const Intercept& entry : intercept.forward) {
    if (entry.steering != SteerBy::tc && entry.steering != SteerBy::automatic)
      reporter.error(entry.where,
                     "intercept.forward: steering tc is for all entries or for none of them",
                     "the one that says tc is at " + first->where.to_string());
    if (entry.on_change == OnChange::reset)
      reporter.error(entry.where, "intercept.forward: steering tc cannot reset open connections",
                     "use `on_change: drain` or `keep`");
  }
  if (config.guard && !config.guard->first)
    reporter.error(config.guard->where,
                   "guard.position: last would hide from the guard what steering tc takes",
                   "use `position: first`; the entry is at " + first->where.to_string());
}

Location where_of_marks(const Config& config) {
  for (const auto* entries :
       {&config.intercept.local, &config.intercept.forward, &config.intercept.output}) {
    if (!entries->empty()) return entries->front().where;
  }
  return {};
}

// --- guard
// -----------------------------------------------------------------------------------------

bool may_be_v4(const GuardMatch& match) {
  return (match.from.empty() || match.from.may_name_v4()) &&
         (match.to.empty() || match.to.may_name_v4());
}
bool may_be_v6(const GuardMatch& match) {
  return (match.from.empty() || match.from.may_name_v6()) &&
         (match.to.empty() || match.to.may_name_v6());
}

bool has_ports(std::uint8_t protocol) {
  constexpr std::uint8_t kWithPorts[] = {6, 17, 33, 132, 136};  // tcp, udp, dccp, sctp, udplite
  return std::ranges::find(kWithPorts, protocol) != std::end(kWithPorts);
}

void check_protocol(const GuardRule& rule, Reporter& reporter) {
  if (!rule.protocol) return;
  const bool ports = !rule.match.from_ports.empty() || !rule.match.to_ports.empty();
  if (ports && !has_ports(*rule.protocol)) {
    reporter.error(rule.where,
                   "guard rule `" + rule.name + "` never matches: its protocol has no ports",
                   "remove the ports, or use tcp, udp or sctp");
  }
  const bool v4 = may_be_v4(rule.match);
  const bool v6 = may_be_v6(rule.match);
  if ((*rule.protocol == kIcmp && !v4) || (*rule.protocol == kIcmpV6 && !v6)) {
    reporter.error(rule.where,
                   "guard rule `" + rule.name +
                       "` never matches: the protocol belongs to the other IP version",
                   *rule.protocol == kIcmp ? "icmpv6 goes with IPv6" : "icmp goes with IPv4");
  }
}

// Far below what the kernel can count in nanoseconds, and beyond what anybody means.
void check_burst(const std::optional<PacketRate>& rate, const Location& where,
                 const std::string& named, Reporter& reporter) {
  constexpr Duration kLongest = 24h * 366;
  if (!rate || rate->count == 0) return;
  const double fill = static_cast<double>(rate->period.count()) *
                      (static_cast<double>(rate->burst) / static_cast<double>(rate->count));
  if (fill <= static_cast<double>(kLongest.count())) return;
  reporter.error(where,
                 named + ": a burst of " + std::to_string(rate->burst) +
                     " takes more than a year to come back at this rate",
                 "lower the burst or raise the rate");
}

void check_action(const GuardRule& rule, Reporter& reporter) {
  const std::string named = "guard rule `" + rule.name + "`";
  if (rule.action == GuardAction::limit && (!rule.rate || rule.rate->count == 0)) {
    reporter.error(rule.where, named + " limits without a rate", "add `rate: 1000/s`");
  }
  if (rule.action != GuardAction::limit && rule.rate) {
    reporter.error(rule.where, named + " has a rate that does nothing",
                   "add `action: limit`, or remove the rate");
  }
  check_burst(rule.rate, rule.where, named, reporter);
}

// What the place in the kernel cannot do is refused, never done elsewhere.
void check_attach(const GuardConfig& guard, Reporter& reporter) {
  if (guard.attach == GuardAttach::tc) return;
  if (!guard.first) {
    reporter.error(guard.where, "guard: position has no meaning with XDP",
                   "XDP comes before every TC program; use `attach: tc` to stand behind them");
  }
  for (const GuardRule& rule : guard.rules) {
    if (rule.direction == GuardDirection::ingress) continue;
    reporter.error(rule.where,
                   "guard rule `" + rule.name + "` looks at packets that go out, and XDP sees none",
                   "use `attach: tc`, or `direction: ingress`");
  }
}

void warn_of_protected(const GuardRule& rule, const Protect& protect, Reporter& reporter) {
  if (rule.action != GuardAction::drop) return;
  for (const ProtectFrom& from : protect.from) {
    if (!rule.match.from.overlaps(from.cidr)) continue;
    reporter.warning(rule.where,
                     "guard rule `" + rule.name + "` names " + from.cidr.to_string() +
                         ", which is protected: protect wins",
                     "protected at " + from.where.to_string());
    return;
  }
}

}  // namespace

void check_interception(const Config& config, Reporter& reporter) {
  const InterceptConfig& intercept = config.intercept;
  check_marks(intercept.marks,
              intercept.marks.where.line != 0 ? intercept.marks.where : where_of_marks(config),
              reporter);
  check_versions(intercept.forward, "forward", reporter);
  check_versions(intercept.output, "output", reporter);
  check_overlaps(intercept.forward, "forward", reporter);
  check_overlaps(intercept.output, "output", reporter);
  check_local_duplicates(intercept.local, reporter);
  check_quic(intercept.forward, "forward", reporter);
  check_quic(intercept.output, "output", reporter);
  check_steering(intercept.local, "local", reporter);
  check_steering(intercept.forward, "forward", reporter);
  check_steering(intercept.output, "output", reporter);
  check_tc(config, reporter);
  check_taken_ports(config, reporter);
}

void check_guard(const Config& config, Reporter& reporter) {
  if (!config.guard) return;
  check_attach(*config.guard, reporter);
  check_burst(config.guard->source_syn, config.guard->where, "guard.per_source", reporter);
  check_burst(config.guard->service_syn, config.guard->where, "guard.per_service", reporter);
  std::map<std::string_view, const GuardRule*> by_name;
  for (const GuardRule& rule : config.guard->rules) {
    const auto [other, fresh] = by_name.emplace(rule.name, &rule);
    if (!fresh) {
      reporter.error(rule.where, "two guard rules are named `" + rule.name + "`",
                     "the other at " + other->second->where.to_string());
    }
    if (rule.action == GuardAction::drop && rule.match.empty() && !rule.protocol) {
      reporter.error(rule.where, "guard rule `" + rule.name + "` would drop every packet",
                     "name from, to, ports or a protocol; `action: count` to watch");
    }
    if (!may_be_v4(rule.match) && !may_be_v6(rule.match)) {
      reporter.error(rule.where,
                     "guard rule `" + rule.name +
                         "` never matches: `from` and `to` have no IP version in common");
    }
    check_protocol(rule, reporter);
    check_action(rule, reporter);
    warn_of_protected(rule, config.protect, reporter);
  }
}

}  // namespace sluice::policy
