#include "kernel/guard_tables.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <unordered_map>

#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

// A bit per rule, twice: the rule's field matches, and the field of its exception matches.
struct Bits {
  std::array<std::uint64_t, SLUICE_GUARD_WORDS> match{};
  std::array<std::uint64_t, SLUICE_GUARD_WORDS> except{};

  static void set(std::array<std::uint64_t, SLUICE_GUARD_WORDS>& words, std::size_t rule,
                  bool on = true) {
    const std::uint64_t bit = 1ULL << (rule % 64);
    if (on) {
      words[rule / 64] |= bit;
    } else {
      words[rule / 64] &= ~bit;
    }
  }
  Bits& operator|=(const Bits& other) {
    for (std::size_t w = 0; w < match.size(); ++w) {
      match[w] |= other.match[w];
      except[w] |= other.except[w];
    }
    return *this;
  }
  bool operator==(const Bits&) const = default;
};

struct BitsHash {
  std::size_t operator()(const Bits& bits) const {
    std::uint64_t hash = 1469598103934665603ULL;
    for (const auto* words : {&bits.match, &bits.except}) {
      for (const std::uint64_t word : *words)
        hash = (hash ^ word ^ (word >> 32)) * 1099511628211ULL;
    }
    return hash;
  }
};

sluice_guard_class to_class(const Bits& bits) {
  sluice_guard_class out{};
  for (std::size_t w = 0; w < SLUICE_GUARD_WORDS; ++w) {
    out.word[w].match = bits.match[w];
    out.word[w].except = bits.except[w];
    if (bits.match[w] != 0) out.live |= 1ULL << w;
  }
  return out;
}

class Classes {
 public:
  explicit Classes(std::vector<sluice_guard_class>& out) : out_(out) {}
  std::uint32_t id_of(const Bits& bits) {
    const auto [at, added] = ids_.try_emplace(bits, static_cast<std::uint32_t>(out_.size()));
    if (added) out_.push_back(to_class(bits));
    return at->second;
  }

 private:
  std::vector<sluice_guard_class>& out_;
  std::unordered_map<Bits, std::uint32_t, BitsHash> ids_;
};

bool has_exception(const GuardRule& rule) {
  const GuardMatch& except = rule.except;
  return !except.from.empty() || !except.to.empty() || !except.from_ports.empty() ||
         !except.to_ports.empty();
}

// What a packet gets that no element of the field matches: the rules that do not have the field.
template <typename Field>
Bits without_field(const std::vector<GuardRule>& rules, Field field) {
  Bits bits;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if ((rules[i].match.*field).empty()) Bits::set(bits.match, i);
    if (has_exception(rules[i]) && (rules[i].except.*field).empty()) Bits::set(bits.except, i);
  }
  return bits;
}

// --- addresses
// -------------------------------------------------------------------------------------

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

struct AddressField {
  std::vector<Prefix> GuardMatch::* field;
  sluice_guard_trie trie;
  std::uint32_t uses4;
  std::uint32_t uses6;
  std::uint32_t sluice_guard_slot::* default4;
  std::uint32_t sluice_guard_slot::* default6;
};

void compile_addresses(const std::vector<GuardRule>& rules, const AddressField& f, Classes& classes,
                       GuardTables& out) {
  const Bits base = without_field(rules, f.field);
  std::array<ByPrefix<Bits>, 2> own;  // IPv6, IPv4
  bool used = false;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    for (const Prefix& p : rules[i].match.*f.field)
      Bits::set(own[p.v4][{p.address, p.length}].match, i);
    for (const Prefix& p : rules[i].except.*f.field)
      Bits::set(own[p.v4][{p.address, p.length}].except, i);
    used |= !(rules[i].match.*f.field).empty() || !(rules[i].except.*f.field).empty();
  }
  // A field that some rule has must be asked for packets of both versions: the rule is out for the
  // other one.
  if (used) out.slot.flags |= f.uses4 | f.uses6;
  out.slot.*f.default4 = out.slot.*f.default6 = classes.id_of(base);
  cover(own[1], true, base, [&](const Prefix& p, const Bits& bits) {
    out.tries4[f.trie].emplace_back(key4(p), classes.id_of(bits));
  });
  cover(own[0], false, base, [&](const Prefix& p, const Bits& bits) {
    out.tries6[f.trie].emplace_back(key6(p), classes.id_of(bits));
  });
}

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
  std::vector<PortRange> GuardMatch::* field;
  std::uint32_t uses;
  std::uint32_t sluice_guard_slot::* without;
  std::uint16_t sluice_guard_port::* class_of;
};

void compile_ports(const std::vector<GuardRule>& rules, const PortField& f, Classes& classes,
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
  Bits bits = without_field(rules, f.field);
  out.slot.*f.without = classes.id_of(bits);
  std::ranges::sort(edges, {}, &PortEdge::port);
  std::size_t next = 0;
  std::uint16_t id = 0;
  for (std::uint32_t port = 0; port < SLUICE_GUARD_PORTS; ++port) {
    if (port == 0 || (next < edges.size() && edges[next].port == port)) {
      for (; next < edges.size() && edges[next].port == port; ++next) {
        Bits::set(edges[next].except ? bits.except : bits.match, edges[next].rule,
                  edges[next].begins);
      }
      id = static_cast<std::uint16_t>(classes.id_of(bits));
    }
    out.ports[port].*f.class_of = id;
  }
}

// --- the rest
// --------------------------------------------------------------------------------------

void compile_protocols(const std::vector<GuardRule>& rules, Classes& classes, GuardTables& out) {
  Bits base;
  std::map<std::uint8_t, Bits> own;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (has_exception(rules[i])) Bits::set(base.except, i);
    Bits::set(rules[i].protocol ? own[*rules[i].protocol].match : base.match, i);
  }
  if (!own.empty()) out.slot.flags |= SLUICE_GUARD_USES_PROTOCOL;
  std::ranges::fill(out.slot.protocol_class, classes.id_of(base));
  for (auto& [protocol, bits] : own) {
    bits |= base;
    out.slot.protocol_class[protocol] = classes.id_of(bits);
  }
}

void compile_rules(const std::vector<GuardRule>& rules, std::span<const std::uint16_t> counters,
                   GuardTables& out) {
  Bits all;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    Bits::set(all.match, i);
    if (has_exception(rules[i])) Bits::set(all.except, i);
    if (rules[i].action == GuardAction::drop) out.slot.drop[i / 64] |= 1ULL << (i % 64);
    out.slot.counter[i] = counters[i];
  }
  out.slot.all = to_class(all);
  out.slot.rules = static_cast<std::uint32_t>(rules.size());
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
  cover(own[1], true, none, [&](const Prefix& p, std::uint64_t bits) {
    out.tries4[SLUICE_GUARD_TRIE_PROTECT].emplace_back(key4(p), bits);
  });
  cover(own[0], false, none, [&](const Prefix& p, std::uint64_t bits) {
    out.tries6[SLUICE_GUARD_TRIE_PROTECT].emplace_back(key6(p), bits);
  });
  return {};
}

}  // namespace

Result<GuardTables> compile_guard(const std::vector<GuardRule>& rules,
                                  std::span<const std::uint16_t> counters,
                                  const std::vector<Protect>& protect,
                                  const std::vector<std::uint16_t>& host_ports) {
  if (rules.size() > SLUICE_GUARD_MAX_RULES) {
    return std::unexpected(Error{
        message("guard.rules has {} rules, and {} is the most; a rule takes many prefixes and "
                "ports, so join those with the same action",
                rules.size(), SLUICE_GUARD_MAX_RULES)});
  }
  GuardTables out;
  out.ports.resize(SLUICE_GUARD_PORTS);
  Classes classes(out.classes);
  compile_rules(rules, counters, out);
  // Ports first: their classes are kept in 16 bits.
  compile_ports(rules,
                {&GuardMatch::from_ports, SLUICE_GUARD_USES_FROM_PORTS,
                 &sluice_guard_slot::default_from_port, &sluice_guard_port::from_class},
                classes, out);
  compile_ports(rules,
                {&GuardMatch::to_ports, SLUICE_GUARD_USES_TO_PORTS,
                 &sluice_guard_slot::default_to_port, &sluice_guard_port::to_class},
                classes, out);
  if (out.classes.size() > SLUICE_GUARD_PORTS) {
    return std::unexpected(
        Error{"guard.rules name ports in too many different combinations; join port ranges"});
  }
  compile_protocols(rules, classes, out);
  compile_addresses(
      rules,
      {&GuardMatch::from, SLUICE_GUARD_TRIE_FROM, SLUICE_GUARD_USES_FROM4, SLUICE_GUARD_USES_FROM6,
       &sluice_guard_slot::default_from4, &sluice_guard_slot::default_from6},
      classes, out);
  compile_addresses(
      rules,
      {&GuardMatch::to, SLUICE_GUARD_TRIE_TO, SLUICE_GUARD_USES_TO4, SLUICE_GUARD_USES_TO6,
       &sluice_guard_slot::default_to4, &sluice_guard_slot::default_to6},
      classes, out);
  for (const std::uint16_t port : host_ports)
    out.ports[port].host = 1;
  if (auto ok = compile_protect(protect, out); !ok) return std::unexpected(ok.error());
  return out;
}

}  // namespace sluice::kernel
