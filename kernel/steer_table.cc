#include "kernel/steer_table.h"

#include <algorithm>
#include <bitset>
#include <fnmatch.h>
#include <map>
#include <set>
#include <tuple>

#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

using Ports = std::vector<PortRange>;
constexpr PortRange kAllPorts{0, 65535};

// Prefixes with what hangs on them, asked for everything that covers a given prefix.
class PrefixIndex {
 public:
  void add(const Prefix& prefix, std::size_t payload) {
    entries_[prefix].push_back(payload);
    lengths_.set(prefix.length);
  }

  template <typename Visit>  // visit(covering length, payload), longest first
  void covering(const Prefix& prefix, Visit visit) const {
    for (int length = prefix.length; length >= 0; length--) {
      if (!lengths_.test(static_cast<std::size_t>(length))) continue;
      const auto found = entries_.find(shortened(prefix, length));
      if (found == entries_.end()) continue;
      for (std::size_t payload : found->second)
        visit(length, payload);
    }
  }

  bool covers(const Prefix& prefix) const {
    bool any = false;
    covering(prefix, [&](int, std::size_t) { any = true; });
    return any;
  }

 private:
  static Prefix shortened(Prefix prefix, int length) {
    prefix.length = static_cast<std::uint8_t>(length);
    for (int byte = 0; byte < 16; byte++) {
      const int kept = std::clamp(length - byte * 8, 0, 8);
      prefix.address[static_cast<std::size_t>(byte)] &=
          static_cast<std::uint8_t>(0xff << (8 - kept));
    }
    return prefix;
  }

  std::map<Prefix, std::vector<std::size_t>> entries_;
  std::bitset<129> lengths_;
};

// Ports not yet claimed; taking a range yields the pieces of it that were free.
class FreePorts {
 public:
  template <typename Visit>
  void take(PortRange range, Visit visit) {
    for (auto at = free_.begin(); at != free_.end();) {
      const auto [first, last] = *at;
      const std::uint16_t low = std::max(first, range.first);
      const std::uint16_t high = std::min(last, range.last);
      if (low > high) {
        ++at;
        continue;
      }
      at = free_.erase(at);
      if (first < low) free_.emplace(first, static_cast<std::uint16_t>(low - 1));
      if (last > high) free_.emplace(static_cast<std::uint16_t>(high + 1), last);
      visit(PortRange{low, high});
    }
  }

 private:
  std::map<std::uint16_t, std::uint16_t> free_{{0, 65535}};
};

// One entry that applies at a destination, by the longest of its prefixes that covers it.
struct Candidate {
  int length;
  std::size_t entry;
  auto operator<=>(const Candidate&) const = default;
};

// Which entries and which protected peers a source falls under.
struct SourceSignature {
  std::vector<bool> entries;
  std::vector<bool> protects;
  auto operator<=>(const SourceSignature&) const = default;
};

bool overlap(const Ports& left, const Ports& right) {
  if (left.empty() || right.empty()) return true;
  for (const auto& a : left) {
    for (const auto& b : right) {
      if (a.first <= b.last && b.first <= a.last) return true;
    }
  }
  return false;
}

class Compiler {
 public:
  Compiler(const Plan& plan, const NodeView& node, const GroupOf& group_of)
      : plan_(plan), node_(node), group_of_(group_of) {
    for (const auto& prefix : node.addresses)
      add_own(prefix);
    Prefix loopback4 = host_prefix({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 0});
    loopback4.length = 104;
    add_own(loopback4);
    add_own(host_prefix({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
    index_entries();
  }

  Result<SteerTable> run() {
    if (plan_.intercepts.empty()) return SteerTable{};
    classify_sources();
    if (auto ok = classify_interfaces(); !ok) return std::unexpected(ok.error());
    for (std::size_t side = 0; side < sides_.size(); side++) {
      const bool one = side == SLUICE_STEER_NODE && !node_by_source_;
      const std::size_t classes = one ? 1 : signatures_.size();
      for (std::size_t source_class = 0; source_class < classes; source_class++) {
        if (auto ok = compile_side(static_cast<std::uint8_t>(side), source_class); !ok)
          return std::unexpected(ok.error());
      }
    }
    if (table_.exits.size() > SLUICE_STEER_MAX_EXITS) {
      return std::unexpected(
          Error{message("intercept.forward: more than {} kinds of on_exit, lease and quic",
                        SLUICE_STEER_MAX_EXITS)});
    }
    return std::move(table_);
  }

 private:
  void add_own(const Prefix& prefix) {
    own_.add(prefix, 0);
    own_prefixes_.push_back(prefix);
  }

  void index_entries() {
    for (std::size_t entry = 0; entry < plan_.intercepts.size(); entry++) {
      const auto& intercept = plan_.intercepts[entry];
      for (const auto& prefix : intercept.to)
        to_.add(prefix, entry);
      for (const auto& prefix : intercept.except_to)
        except_to_.add(prefix, entry);
      for (const auto& prefix : intercept.from)
        from_.add(prefix, entry);
      for (const auto& prefix : intercept.except_from)
        except_from_.add(prefix, entry);
      if (intercept.way == WayIn::local) {
        for (const auto& prefix : intercept.to)
          local_.add(prefix, entry);
      }
    }
    for (std::size_t index = 0; index < plan_.protect.size(); index++) {
      if (leaves_clients_alone(plan_.protect[index]))
        protects_.add(plan_.protect[index].peer, index);
      if (!plan_.protect[index].upstream) protected_servers_.add(plan_.protect[index].peer, index);
    }
  }

  SourceSignature default_signature() const {
    SourceSignature signature;
    for (const auto& intercept : plan_.intercepts)
      signature.entries.push_back(intercept.from.empty());
    signature.protects.resize(plan_.protect.size());
    return signature;
  }

  SourceSignature signature_of(const Prefix& source) const {
    SourceSignature signature = default_signature();
    from_.covering(source, [&](int, std::size_t entry) { signature.entries[entry] = true; });
    except_from_.covering(source,
                          [&](int, std::size_t entry) { signature.entries[entry] = false; });
    protects_.covering(source, [&](int, std::size_t index) { signature.protects[index] = true; });
    return signature;
  }

  // Class 0 is a source that no prefix names.
  void classify_sources() {
    std::set<Prefix> prefixes;
    for (const auto& intercept : plan_.intercepts) {
      prefixes.insert(intercept.from.begin(), intercept.from.end());
      prefixes.insert(intercept.except_from.begin(), intercept.except_from.end());
    }
    for (const auto& protect : plan_.protect) {
      if (leaves_clients_alone(protect)) prefixes.insert(protect.peer);
    }
    signatures_.push_back(default_signature());
    std::map<SourceSignature, std::uint16_t> classes{{signatures_[0], 0}};
    if (prefixes.empty()) return;
    prefixes.insert(all_of_v4());  // else a short IPv6 prefix such as ::/0 would claim IPv4 too
    for (const auto& prefix : prefixes) {
      SourceSignature signature = signature_of(prefix);
      const auto [found, added] =
          classes.emplace(signature, static_cast<std::uint16_t>(signatures_.size()));
      if (added) signatures_.push_back(std::move(signature));
      table_.sources.push_back({prefix, found->second});
    }
  }

  static bool leaves_clients_alone(const Protect& protect) {
    return !protect.upstream && !protect.server_only;
  }

  // Which protect entries hold on an interface; those that differ from any other's get a side.
  std::vector<bool> held_on(const std::string& interface) const {
    std::vector<bool> held;
    for (const auto& protect : plan_.protect) {
      const auto& patterns = protect.interfaces;
      held.push_back(patterns.empty() ||
                     std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) {
                       return ::fnmatch(pattern.c_str(), interface.c_str(), 0) == 0;
                     }));
    }
    return held;
  }

  Result<void> classify_interfaces() {
    std::vector<bool> elsewhere;
    for (const auto& protect : plan_.protect)
      elsewhere.push_back(protect.interfaces.empty());
    sides_ = {elsewhere, elsewhere};
    std::map<std::vector<bool>, std::size_t> known{{elsewhere, SLUICE_STEER_OUTSIDE}};
    // A table for each source is worth it only where an entry asks which one it is.
    node_by_source_ = std::ranges::any_of(plan_.intercepts, [](const Intercept& intercept) {
      return intercept.way != WayIn::forward && !intercept.except_from.empty();
    });
    if (node_by_source_) table_.interfaces.push_back({SLUICE_STEER_LO, SLUICE_STEER_NODE});
    for (const auto& [name, index] : node_.interfaces) {
      if (index == SLUICE_STEER_LO) continue;
      const auto held = held_on(name);
      const auto [found, added] = known.emplace(held, sides_.size());
      if (added) sides_.push_back(held);
      if (found->second != SLUICE_STEER_OUTSIDE)
        table_.interfaces.push_back({index, static_cast<std::uint8_t>(found->second)});
    }
    if (sides_.size() <= SLUICE_STEER_SIDES &&
        table_.interfaces.size() <= SLUICE_STEER_MAX_INTERFACES / SLUICE_SLOTS)
      return {};
    return std::unexpected(
        Error{"protect: `interfaces` tell too many interfaces apart (254 kinds, 4096 interfaces)"});
  }

  bool on_side(const Intercept& intercept, std::uint8_t side) const {
    if (intercept.way == WayIn::local) return true;
    return intercept.way == (side == SLUICE_STEER_NODE ? WayIn::output : WayIn::forward);
  }

  Result<void> compile_side(std::uint8_t side, std::size_t source_class) {
    std::set<Prefix> nodes(own_prefixes_.begin(), own_prefixes_.end());
    for (const auto& intercept : plan_.intercepts) {
      if (!on_side(intercept, side)) continue;
      nodes.insert(intercept.to.begin(), intercept.to.end());
      nodes.insert(intercept.except_to.begin(), intercept.except_to.end());
    }
    nodes.insert(all_of_v4());
    for (const auto& protect : plan_.protect) {
      if (side != SLUICE_STEER_NODE && !protect.upstream) nodes.insert(protect.peer);
    }
    segments_of_.clear();
    protected_clients_.clear();
    for (std::size_t index = 0; index < plan_.protect.size(); index++) {
      if (signatures_[source_class].protects[index]) protected_clients_.insert(index);
    }
    for (const auto& node : nodes) {
      auto ports = ports_of(side, source_class, node);
      if (!ports) return std::unexpected(ports.error());
      table_.destinations.push_back({side, static_cast<std::uint16_t>(source_class), node, *ports});
    }
    if (std::max(table_.destinations.size(), table_.segments.size()) > kMaxSteerEntries ||
        signatures_.size() > 65535) {
      return std::unexpected(
          Error{message("intercept: destinations, sources and ports multiply to more than {} "
                        "entries; use fewer or wider prefixes",
                        kMaxSteerEntries)});
    }
    return {};
  }

  std::vector<Candidate> candidates(std::uint8_t side, const SourceSignature& source,
                                    const Prefix& node) const {
    std::set<std::size_t> holes;
    except_to_.covering(node, [&](int, std::size_t entry) { holes.insert(entry); });
    const bool local_only = own_.covers(node) || local_.covers(node);
    std::vector<Candidate> found;
    std::set<std::size_t> seen;
    to_.covering(node, [&](int length, std::size_t entry) {
      const auto& intercept = plan_.intercepts[entry];
      if (!on_side(intercept, side) || holes.contains(entry) || !seen.insert(entry).second) return;
      if (local_only && intercept.way != WayIn::local) return;
      if (!source.entries[entry]) return;
      found.push_back({length, entry});
    });
    return found;
  }

  Result<sluice_steer_ports> ports_of(std::uint8_t side, std::size_t source_class,
                                      const Prefix& node) {
    const auto& source = signatures_[source_class];
    const auto found = candidates(side, source, node);
    const bool own = own_.covers(node);
    const bool forwarded = side != SLUICE_STEER_NODE && !own && !local_.covers(node);
    const auto spared = forwarded ? protects_on_the_way(side, node) : std::vector<std::size_t>{};
    const auto key = std::make_tuple(found, own, spared);
    if (const auto known = segments_of_.find(key); known != segments_of_.end())
      return known->second;
    if (auto ok = refuse_ambiguous(found); !ok) return std::unexpected(ok.error());

    FreePorts free;
    if (own && side != SLUICE_STEER_NODE) leave_to_host(source, side, free);
    for (const std::size_t index : spared)
      leave_ports(plan_.protect[index], free);
    const auto first = static_cast<std::uint32_t>(table_.segments.size());
    claim(found, own, free);
    const sluice_steer_ports ports{first,
                                   static_cast<std::uint32_t>(table_.segments.size()) - first};
    segments_of_.emplace(key, ports);
    return ports;
  }

  // Marking knows the process' cgroup, sk_lookup does not: it could hand one's connection to the
  // other's listener.
  Result<void> refuse_ambiguous(const std::vector<Candidate>& found) const {
    for (std::size_t i = 0; i < found.size(); i++) {
      const auto& a = plan_.intercepts[found[i].entry];
      for (std::size_t j = i + 1; j < found.size(); j++) {
        const auto& b = plan_.intercepts[found[j].entry];
        if (a.way != WayIn::output || b.way != WayIn::output) continue;
        if (a.listener == b.listener || a.cgroups == b.cgroups || !overlap(a.ports, b.ports))
          continue;
        return std::unexpected(Error{message(
            "{} and {}: output entries for different cgroups lead the same destinations to "
            "different listeners ({}, "
            "{}); use one listener, or destinations that do not overlap",
            a.where, b.where, plan_.listeners[a.listener].name, plan_.listeners[b.listener].name)});
      }
    }
    return {};
  }

  static void leave_ports(const Protect& protect, FreePorts& free) {
    const auto drop = [](PortRange) {};
    if (protect.to_ports.empty()) free.take(kAllPorts, drop);
    for (const auto& range : protect.to_ports)
      free.take(range, drop);
  }

  void leave_to_host(const SourceSignature& source, std::uint8_t side, FreePorts& free) const {
    for (std::size_t index = 0; index < plan_.protect.size(); index++) {
      if (source.protects[index] && sides_[side][index]) leave_ports(plan_.protect[index], free);
    }
  }

  // Of forwarded connections: the protected peers that are their client or server.
  std::vector<std::size_t> protects_on_the_way(std::uint8_t side, const Prefix& node) const {
    std::set<std::size_t> found = protected_clients_;
    protected_servers_.covering(node, [&](int, std::size_t index) { found.insert(index); });
    std::erase_if(found, [&](std::size_t index) { return !sides_[side][index]; });
    return {found.begin(), found.end()};
  }

  // Where an entry's connections go while nobody serves; those that share it share a lease.
  std::uint8_t exit_of(const Intercept& intercept) {
    if (intercept.steering != SteerBy::tc) return 0;
    const SteerTable::Exit exit{intercept.lease, intercept.on_exit == OnExit::closed,
                                intercept.block_quic};
    const auto found = std::ranges::find(table_.exits, exit);
    const auto index = static_cast<std::size_t>(found - table_.exits.begin());
    if (found == table_.exits.end()) table_.exits.push_back(exit);
    return static_cast<std::uint8_t>(std::min<std::size_t>(index, SLUICE_STEER_MAX_EXITS - 1));
  }

  // The pieces of a range that host_ports do not keep.
  std::vector<PortRange> beside_host_ports(PortRange range) const {
    FreePorts pieces;
    for (const auto port : plan_.host_ports)
      pieces.take({port, port}, [](PortRange) {});
    std::vector<PortRange> left;
    pieces.take(range, [&](PortRange piece) { left.push_back(piece); });
    return left;
  }

  void claim(const std::vector<Candidate>& found, bool own, FreePorts& free) {
    struct Claim {
      int shortness;
      int width;  // 0: exact; 65535: any
      std::size_t entry;
      PortRange range;
      auto operator<=>(const Claim&) const = default;
    };
    std::vector<Claim> claims;
    for (const auto& candidate : found) {
      const auto& ports = plan_.intercepts[candidate.entry].ports;
      const auto add = [&](PortRange range) {
        claims.push_back({-candidate.length, range.last - range.first, candidate.entry, range});
      };
      if (ports.empty()) add(kAllPorts);
      for (const auto& range : ports)
        add(range);
    }
    std::sort(claims.begin(), claims.end());

    std::vector<sluice_steer_segment> segments;
    for (const auto& claimed : claims) {
      const auto& intercept = plan_.intercepts[claimed.entry];
      const std::uint16_t group = group_of_(intercept.listener, intercept.way);
      const auto take = [&](PortRange range) {
        if (intercept.steering == SteerBy::tproxy) return;
        segments.push_back({range.first, range.last, group,
                            static_cast<std::uint8_t>(plan_.workers), exit_of(intercept)});
      };
      if (!own || intercept.take_over) {
        free.take(claimed.range, take);
        continue;
      }
      for (const auto& piece : beside_host_ports(claimed.range))
        free.take(piece, take);
    }
    append_joined(std::move(segments));
  }

  void append_joined(std::vector<sluice_steer_segment> segments) {
    std::sort(segments.begin(), segments.end(),
              [](const auto& a, const auto& b) { return a.first_port < b.first_port; });
    const std::size_t begin = table_.segments.size();
    for (const auto& segment : segments) {
      const bool joins = table_.segments.size() > begin &&
                         table_.segments.back().group == segment.group &&
                         table_.segments.back().exit == segment.exit &&
                         table_.segments.back().last_port + 1 == segment.first_port;
      if (joins) {
        table_.segments.back().last_port = segment.last_port;
      } else {
        table_.segments.push_back(segment);
      }
    }
  }

  const Plan& plan_;
  const NodeView& node_;
  const GroupOf& group_of_;
  std::vector<std::vector<bool>> sides_;  // by side: which protect entries hold there
  std::vector<Prefix> own_prefixes_;
  PrefixIndex own_, to_, except_to_, from_, except_from_, local_, protects_, protected_servers_;
  std::vector<SourceSignature> signatures_;
  bool node_by_source_ = false;  // what comes over lo is told apart by source, too
  std::map<std::tuple<std::vector<Candidate>, bool, std::vector<std::size_t>>, sluice_steer_ports>
      segments_of_;                          // of one side and class
  std::set<std::size_t> protected_clients_;  // that sources of this class are
  SteerTable table_;
};

}  // namespace

Result<SteerTable> compile_steer_table(const Plan& plan, const NodeView& node,
                                       const GroupOf& group_of) {
  return Compiler(plan, node, group_of).run();
}

namespace {

// As an LPM trie does: by bits alone.
bool matches_bits(const Prefix& prefix, const Prefix& host) {
  Prefix same_version = prefix;
  same_version.v4 = host.v4;
  return covers(same_version, host);
}

std::uint16_t class_of(const SteerTable& table, const Prefix& source) {
  const SteerTable::Source* best = nullptr;
  for (const auto& candidate : table.sources) {
    if (!matches_bits(candidate.prefix, source)) continue;
    if (!best || candidate.prefix.length > best->prefix.length) best = &candidate;
  }
  return best ? best->source_class : 0;
}

}  // namespace

std::optional<std::uint16_t> find_group(const SteerTable& table, std::uint8_t side,
                                        const Prefix& source, const Prefix& destination,
                                        std::uint16_t port) {
  const bool by_source =
      side != SLUICE_STEER_NODE || std::ranges::any_of(table.interfaces, [](const auto& interface) {
        return interface.index == SLUICE_STEER_LO;
      });
  const std::uint16_t source_class = by_source ? class_of(table, source) : std::uint16_t{0};
  const SteerTable::Destination* best = nullptr;
  for (const auto& candidate : table.destinations) {
    if (candidate.side != side || candidate.source_class != source_class) continue;
    if (!matches_bits(candidate.prefix, destination)) continue;
    if (!best || candidate.prefix.length > best->prefix.length) best = &candidate;
  }
  if (!best) return std::nullopt;
  for (std::uint32_t i = 0; i < best->ports.count; i++) {
    const auto& segment = table.segments[best->ports.first + i];
    if (segment.first_port <= port && port <= segment.last_port) return segment.group;
  }
  return std::nullopt;
}

}  // namespace sluice::kernel
