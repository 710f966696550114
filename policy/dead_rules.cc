#include "policy/dead_rules.h"

#include <algorithm>
#include <span>

#include "policy/drop_rules.h"
#include "policy/ip_protocols.h"

namespace sluice::policy {

namespace {

// Pairs of rules are compared; beyond this it would cost more than it tells.
constexpr std::size_t kMostCompared = 2000;

Diagnostic warning(const Location& where, std::string message, std::string hint) {
  return {Diagnostic::Severity::warning, where, std::move(message), std::move(hint)};
}

// Each of `narrow` lies within one of `wide`; an empty list is everything.
template <typename T, typename Within>
bool within(const std::vector<T>& narrow, const std::vector<T>& wide, Within inside) {
  if (wide.empty()) return true;
  return !narrow.empty() && std::ranges::all_of(narrow, [&](const T& part) {
    return std::ranges::any_of(wide, [&](const T& whole) { return inside(part, whole); });
  });
}

bool in_prefix(const Prefix& narrow, const Prefix& wide) {
  return wide.contains(narrow);
}
bool in_range(const PortRange& narrow, const PortRange& wide) {
  return wide.first <= narrow.first && narrow.last <= wide.last;
}

// What a set holds may change while the policy runs: it lies within itself alone.
bool within(const AddressMatch& narrow, const AddressMatch& wide) {
  if (wide.empty()) return true;
  if (narrow.empty()) return false;
  const bool sets = std::ranges::all_of(narrow.sets, [&](const SetReference& set) {
    return std::ranges::find(wide.sets, set.name, &SetReference::name) != wide.sets.end();
  });
  return sets && (narrow.prefixes.empty() ||
                  (!wide.prefixes.empty() && within(narrow.prefixes, wide.prefixes, in_prefix)));
}

bool within(const GuardMatch& narrow, const GuardMatch& wide) {
  return within(narrow.from, wide.from) && within(narrow.to, wide.to) &&
         within(narrow.from_ports, wide.from_ports, in_range) &&
         within(narrow.to_ports, wide.to_ports, in_range);
}

// -1: both; else 4 or 6.
int version_of(const AddressMatch& match) {
  const std::vector<Prefix>& prefixes = match.prefixes;
  if (!match.sets.empty()) return -1;
  if (prefixes.empty()) return -1;
  const bool v4 = prefixes.front().is_v4();
  const bool one = std::ranges::all_of(prefixes, [&](const Prefix& p) { return p.is_v4() == v4; });
  return one ? (v4 ? 4 : 6) : -1;
}

// What parse() has not refused already.
std::string impossible(const GuardRule& rule) {
  const int from = version_of(rule.match.from);
  const int version = from != -1 ? from : version_of(rule.match.to);
  if (rule.protocol == kIcmp && version == 6) return "icmp is IPv4's, and its addresses are IPv6";
  if (rule.protocol == kIcmpV6 && version == 4) return "icmpv6 is IPv6's, and its addresses are IPv4";
  if (!rule.except.empty() && within(rule.match, rule.except))
    return "its `except` holds for all that it names";
  return "";
}

bool drops(const GuardConfig& guard, const GuardRule& rule) {
  return rule.action == GuardAction::drop && guard.mode == GuardMode::enforce &&
         rule.mode == GuardMode::enforce;
}

bool same_places(const GuardConfig& guard, const GuardRule& narrow, const GuardRule& wide) {
  const bool direction = wide.direction == narrow.direction || wide.direction == GuardDirection::both;
  return direction && interfaces_of(guard, wide) == interfaces_of(guard, narrow);
}

// All that `late` drops, `early` has dropped and reported.
bool covered_by(const GuardConfig& guard, const GuardRule& late, const GuardRule& early) {
  const bool protocol = !early.protocol || early.protocol == late.protocol;
  return early.except.empty() && protocol && same_places(guard, late, early) &&
         within(late.match, early.match);
}

void look_at_guard(const GuardConfig& guard, Diagnostics& found) {
  std::vector<const GuardRule*> earlier;
  for (const GuardRule& rule : guard.rules) {
    if (const std::string why = impossible(rule); !why.empty()) {
      found.push_back(warning(rule.where, "guard rule `" + rule.name + "` can never match: " + why,
                              "take it out, or correct it"));
      continue;
    }
    const bool acts = rule.action != GuardAction::count;
    const auto cover = std::ranges::find_if(
        earlier, [&](const GuardRule* early) { return acts && covered_by(guard, rule, *early); });
    if (cover != earlier.end()) {
      found.push_back(warning(rule.where,
                              "guard rule `" + rule.name + "` never decides: rule `" +
                                  (*cover)->name + "` (" + (*cover)->where.to_string() +
                                  ") drops all of its packets before",
                              "put the narrower rule first, or take it out"));
    }
    if (drops(guard, rule) && earlier.size() < kMostCompared) earlier.push_back(&rule);
  }
}

// Which pods there are is not asked.
bool catches_all_of(const Intercept& early, const Intercept& late) {
  const InterceptExcept& except = early.except;
  return early.from_pods.empty() && late.from_pods.empty() && except.from.empty() &&
         except.from_pods.empty() && except.to.empty() &&
         (early.cgroups.empty() || early.cgroups == late.cgroups) &&
         within(late.from, early.from, in_prefix) && within(late.to, early.to, in_prefix) &&
         within(late.ports, early.ports, in_range);
}

template <typename T>
bool names_all_of(const std::vector<T>& early, const std::vector<T>& late) {
  if (late.empty()) return early.empty();
  return std::ranges::all_of(
      late, [&](const T& part) { return std::ranges::find(early, part) != early.end(); });
}

// The kernel prefers longer prefixes and narrower ports, whatever `from` says; of equal ones the
// entry that stands first. QUIC and open connections are looked at by each entry that says so.
bool preferred(const Intercept& early, const Intercept& late) {
  return names_all_of(early.to, late.to) && names_all_of(early.ports, late.ports) &&
         early.steering == late.steering && (late.quic == Quic::pass || early.quic == late.quic) &&
         (late.on_change == OnChange::keep || early.on_change == late.on_change) &&
         (!late.take_over || early.take_over);
}

bool says_the_same(const Intercept& one, const Intercept& other) {
  return one.listener == other.listener && one.on_exit == other.on_exit &&
         one.lease == other.lease && one.steering == other.steering &&
         one.on_change == other.on_change && one.quic == other.quic &&
         one.take_over == other.take_over;
}

// `apart`: entries for different listeners have nothing in common, or the policy would be refused.
void look_at_shadowed(std::span<const Intercept> entries, const char* way, bool apart,
                      Diagnostics& found) {
  entries = entries.first(std::min(entries.size(), kMostCompared));
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Intercept& late = entries[i];
    // An entry that says otherwise may stand between the two in precedence.
    const bool all_alike = std::ranges::all_of(entries, [&](const Intercept& entry) {
      const bool elsewhere = apart && entry.from_pods.empty() && entry.listener != late.listener;
      return elsewhere || says_the_same(entry, late);
    });
    const auto earlier = entries.first(i);
    const auto early = std::ranges::find_if(earlier, [&](const Intercept& entry) {
      return catches_all_of(entry, late) && (all_alike || preferred(entry, late));
    });
    if (early == earlier.end()) continue;
    found.push_back(warning(late.where,
                            std::string("intercept.") + way + ": never decides: the entry at " +
                                early->where.to_string() + " catches all of its connections before",
                            "take it out, or put the narrower entry first"));
  }
}

void look_at_intercepts(const Config& config, const std::vector<Intercept>& entries,
                        const char* way, Diagnostics& found) {
  for (const Intercept& entry : entries) {
    const bool local = std::ranges::all_of(entry.to, [&](const Prefix& prefix) {
      return std::ranges::any_of(config.intercept.local, [&](const Intercept& other) {
        return within(std::vector{prefix}, other.to, in_prefix);
      });
    });
    const std::string name = std::string("intercept.") + way;
    if (local && !entry.to.empty())
      found.push_back(warning(entry.where,
                              name + ": can never match: all of its destinations belong to "
                                     "intercept.local",
                              "take it out, or narrow intercept.local"));
    const InterceptExcept& except = entry.except;
    const bool excepted = (!except.to.empty() && within(entry.to, except.to, in_prefix)) ||
                          (!except.from.empty() && !entry.from.empty() &&
                           within(entry.from, except.from, in_prefix));
    if (excepted)
      found.push_back(warning(entry.where,
                              name + ": can never match: its `except` holds for all that it names",
                              "take it out, or correct it"));
  }
}

}  // namespace

Diagnostics find_dead_rules(const Config& config) {
  Diagnostics found;
  if (config.guard) look_at_guard(*config.guard, found);
  look_at_intercepts(config, config.intercept.forward, "forward", found);
  look_at_intercepts(config, config.intercept.output, "output", found);
  look_at_shadowed(config.intercept.local, "local", false, found);
  look_at_shadowed(config.intercept.forward, "forward", true, found);
  look_at_shadowed(config.intercept.output, "output", true, found);
  return found;
}

}  // namespace sluice::policy
