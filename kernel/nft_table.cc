#include "kernel/nft_table.h"

#include <algorithm>
#include <fstream>
#include <linux/netfilter.h>
#include <optional>
#include <sstream>
#include <sys/stat.h>

#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr std::int32_t kMangle = -150;
constexpr NftHook kPreroutingHook{"filter", NF_INET_PRE_ROUTING, kMangle};
constexpr NftHook kOutputHook{"route", NF_INET_LOCAL_OUT, kMangle};
constexpr const char* kPrerouting = "prerouting";
constexpr const char* kOutput = "output";
using Side = NftRule::Side;

std::vector<Prefix> of_version(const std::vector<Prefix>& prefixes, bool v4) {
  std::vector<Prefix> result;
  std::copy_if(prefixes.begin(), prefixes.end(), std::back_inserter(result),
               [&](const Prefix& prefix) { return prefix.v4 == v4; });
  return result;
}

bool is_everything(const std::vector<Prefix>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [](const Prefix& prefix) { return own_length(prefix) == 0; });
}

NftInterval interval_of(const Prefix& prefix) {
  NftInterval interval{};
  const std::size_t skip = prefix.v4 ? 12 : 0;
  std::copy(prefix.address.begin() + static_cast<std::ptrdiff_t>(skip), prefix.address.end(),
            interval.first.begin());
  interval.second = interval.first;
  const int bits = prefix.v4 ? 32 : 128;
  for (int bit = own_length(prefix); bit < bits; bit++) {
    interval.second[static_cast<std::size_t>(bit / 8)] |=
        static_cast<std::uint8_t>(0x80 >> (bit % 8));
  }
  return interval;
}

NftInterval interval_of(PortRange range) {
  NftInterval interval{};
  interval.first[0] = static_cast<std::uint8_t>(range.first >> 8);
  interval.first[1] = static_cast<std::uint8_t>(range.first);
  interval.second[0] = static_cast<std::uint8_t>(range.last >> 8);
  interval.second[1] = static_cast<std::uint8_t>(range.last);
  return interval;
}

template <typename Values>
std::vector<NftInterval> intervals_of(const Values& values) {
  std::vector<NftInterval> intervals;
  for (const auto& value : values)
    intervals.push_back(interval_of(value));
  return intervals;
}

// "/a/b" is two levels below the root.
std::uint32_t level_of(const std::string& path) {
  std::uint32_t level = 0;
  std::istringstream parts(path);
  for (std::string part; std::getline(parts, part, '/');)
    level += part.empty() ? 0 : 1;
  return level;
}

class TableWriter {
 public:
  TableWriter(NftBatch& batch, const Plan& plan, const NftTableOptions& options)
      : batch_(batch), plan_(plan), options_(options) {}

  int write() {
    batch_.add_table();
    batch_.delete_table();
    batch_.add_table();
    for (const auto lease : leases_of(plan_)) {
      batch_.add_timeout_set(lease_set(lease));
      if (options_.gateway_serves) batch_.renew_timeout_element(lease_set(lease), lease);
    }
    write_prerouting();
    if (has(WayIn::output)) write_output();
    return rules_;
  }

 private:
  bool has(WayIn way) const {
    return std::any_of(plan_.intercepts.begin(), plan_.intercepts.end(),
                       [&](const Intercept& intercept) { return intercept.way == way; });
  }

  void add(const char* chain, const NftRule& rule) {
    batch_.add_rule(chain, rule);
    rules_++;
  }

  void write_prerouting() {
    const Marks& marks = plan_.marks;
    batch_.add_chain(kPrerouting, kPreroutingHook);
    add(kPrerouting, std::move(NftRule().is_tcp(false).accept()));
    // What this node sends to itself was judged in `output`, and keeps its mark over lo.
    add(kPrerouting, std::move(NftRule().came_by("lo").accept()));
    // `socket` finds our listening sockets too, by sk_lookup: packets of a connection that bypasses
    // must not follow them.
    add(kPrerouting,
        std::move(NftRule().is_tcp().opens_connection(false).has_wildcard_socket().accept()));
    add(kPrerouting,
        std::move(NftRule()
                      .is_tcp()
                      .opens_connection(false)
                      .has_transparent_socket()
                      .set_mark(marks.intercepted(), marks.mask)
                      .accept()
                      .comment("what is proxied, and replies to sockets with a client's address")));
    add(kPrerouting, std::move(NftRule().is_tcp().opens_connection(false).accept()));
    if (!options_.judge_syns || !has(WayIn::forward)) return;
    add(kPrerouting, std::move(NftRule().destination_is_local().accept()));
    write_protect(kPrerouting, WayIn::forward);
    write_entries(kPrerouting, WayIn::forward);
  }

  void write_output() {
    const Marks& marks = plan_.marks;
    batch_.add_chain(kOutput, kOutputHook);
    add(kOutput, std::move(NftRule().is_tcp(false).accept()));
    add(kOutput, std::move(NftRule()
                               .mark_is(marks.gateway(), marks.mask)
                               .accept()
                               .comment("the gateway's own sockets")));
    add(kOutput, std::move(NftRule()
                               .is_tcp()
                               .opens_connection(false)
                               .ct_mark_is(marks.intercepted_output(), marks.mask)
                               .set_mark(marks.intercepted_output(), marks.mask)
                               .accept()
                               .comment("what is proxied")));
    add(kOutput, std::move(NftRule().is_tcp().opens_connection(false).accept()));
    // A SYN that is sent again may be judged otherwise than the first.
    add(kOutput, std::move(NftRule()
                               .ct_mark_is(marks.intercepted_output(), marks.mask)
                               .set_ct_mark(0, marks.mask)));
    if (!options_.judge_syns) return;
    add(kOutput, std::move(NftRule().destination_is_local().accept()));
    write_protect(kOutput, WayIn::output);
    write_entries(kOutput, WayIn::output);
  }

  // Peers that are never intercepted: as client or server of a forwarded connection, as server of
  // our own.
  void write_protect(const char* chain, WayIn way) {
    for (const auto& protect : plan_.protect) {
      if (protect.upstream) continue;
      const std::string name = "protect" + std::to_string(protects_++);
      const bool v4 = protect.peer.v4;
      batch_.add_interval_set(name, v4 ? NftKey::ipv4 : NftKey::ipv6, {interval_of(protect.peer)});
      if (!protect.to_ports.empty()) {
        batch_.add_interval_set(name + "_ports", NftKey::port, intervals_of(protect.to_ports));
      }
      std::vector<std::string> interfaces = protect.interfaces;
      if (interfaces.empty()) interfaces.emplace_back();
      for (const auto& interface : interfaces) {
        write_protected_peer(chain, way, Side::destination, protect, name, interface);
        if (way == WayIn::forward)
          write_protected_peer(chain, way, Side::source, protect, name, interface);
      }
    }
  }

  void write_protected_peer(const char* chain, WayIn way, Side side, const Protect& protect,
                            const std::string& name, const std::string& interface) {
    NftRule rule;
    if (!interface.empty())
      way == WayIn::forward ? rule.came_by(interface) : rule.leaves_by(interface);
    rule.is_version(protect.peer.v4).is_tcp().address_in(side, protect.peer.v4, name);
    if (!protect.to_ports.empty()) rule.destination_port_in(name + "_ports");
    add(chain, rule.accept());
  }

  void write_entries(const char* chain, WayIn way) {
    for (std::size_t index = 0; index < plan_.intercepts.size(); index++) {
      const Intercept& intercept = plan_.intercepts[index];
      if (intercept.way != way) continue;
      const std::string ports = write_ports(index, intercept);
      for (const bool v4 : {true, false})
        write_entry(chain, index, intercept, v4, ports);
    }
  }

  // The set's name; empty: any port.
  std::string write_ports(std::size_t index, const Intercept& intercept) {
    const bool any =
        intercept.ports.empty() || std::find(intercept.ports.begin(), intercept.ports.end(),
                                             PortRange{0, 65535}) != intercept.ports.end();
    if (any) return {};
    const std::string name = "entry" + std::to_string(index) + "_ports";
    batch_.add_interval_set(name, NftKey::port, intervals_of(intercept.ports));
    return name;
  }

  // Adds the match, and the set that it needs. False: nothing of this IP version can match.
  bool match_addresses(NftRule& rule, Side side, bool v4, const std::string& name,
                       const std::vector<Prefix>& in, const std::vector<Prefix>& except) {
    const auto wanted = of_version(in, v4);
    if (!in.empty() && wanted.empty()) return false;
    const NftKey key = v4 ? NftKey::ipv4 : NftKey::ipv6;
    if (!wanted.empty() && !is_everything(wanted)) {
      batch_.add_interval_set(name, key, intervals_of(wanted));
      rule.address_in(side, v4, name);
    }
    const auto holes = of_version(except, v4);
    if (is_everything(holes)) return false;
    if (!holes.empty()) {
      batch_.add_interval_set(name + "_except", key, intervals_of(holes));
      rule.address_in(side, v4, name + "_except", false);
    }
    return true;
  }

  void write_entry(const char* chain, std::size_t index, const Intercept& intercept, bool v4,
                   const std::string& ports) {
    const std::string name = "entry" + std::to_string(index) + (v4 ? "_v4" : "_v6");
    const std::string verdict = verdict_chain(intercept);
    std::vector<std::optional<std::string>> cgroups;
    for (const auto& path : intercept.cgroups)
      cgroups.emplace_back(path);
    if (cgroups.empty()) cgroups.emplace_back();
    int part = 0;
    for (const auto& cgroup : cgroups) {
      NftRule rule;
      rule.is_version(v4).is_tcp();
      if (cgroup) {
        const auto id = options_.cgroups.find(*cgroup);
        if (id == options_.cgroups.end())
          continue;  // nobody is in it; tick() writes the table again when it appears
        rule.in_cgroup(id->second, level_of(*cgroup));
      }
      const std::string suffix = part++ == 0 ? "" : "_" + std::to_string(part);
      if (!match_addresses(rule, Side::source, v4, name + "_from" + suffix, intercept.from,
                           intercept.except_from)) {
        return;
      }
      if (!match_addresses(rule, Side::destination, v4, name + "_to" + suffix, intercept.to,
                           intercept.except_to)) {
        return;
      }
      if (!ports.empty()) rule.destination_port_in(ports);
      add(chain, rule.jump(verdict).comment(intercept.where));
    }
  }

  // What a matching SYN gets: the mark while the lease is held; without it, its entry's on_exit.
  std::string verdict_chain(const Intercept& intercept) {
    const bool output = intercept.way == WayIn::output;
    const bool closed = intercept.on_exit == OnExit::closed;
    const std::string name = std::string(to_text(intercept.way)) +
                             (closed ? "_closed_" : "_bypass_") +
                             std::to_string(intercept.lease.count()) + "ms";
    if (!verdict_chains_.insert(name).second) return name;
    const Marks& marks = plan_.marks;
    batch_.add_chain(name);
    NftRule held;
    held.protocol_in(lease_set(intercept.lease));
    if (output) held.set_ct_mark(marks.intercepted_output(), marks.mask);
    held.set_mark(output ? marks.intercepted_output() : marks.intercepted(), marks.mask).accept();
    add(name.c_str(), held);
    NftRule without;
    closed ? without.drop() : without.accept();
    add(name.c_str(), without);
    return name;
  }

  NftBatch& batch_;
  const Plan& plan_;
  const NftTableOptions& options_;
  std::set<std::string> verdict_chains_;
  int protects_ = 0;
  int rules_ = 0;
};

std::string cgroup2_mount() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const auto separator = line.find(" - cgroup2 ");
    if (separator == std::string::npos) continue;
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    fields >> id >> parent >> device >> root >> point;
    return point;
  }
  return "/sys/fs/cgroup";
}

}  // namespace

int write_nft_table(NftBatch& batch, const Plan& plan, const NftTableOptions& options) {
  return TableWriter(batch, plan, options).write();
}

void write_nft_removal(NftBatch& batch) {
  // A deletion of what is not there fails: create it first.
  batch.add_table();
  batch.delete_table();
}

std::set<std::chrono::milliseconds> leases_of(const Plan& plan) {
  std::set<std::chrono::milliseconds> leases;
  for (const auto& intercept : plan.intercepts) {
    if (intercept.way == WayIn::forward || intercept.way == WayIn::output)
      leases.insert(intercept.lease);
  }
  return leases;
}

std::string lease_set(std::chrono::milliseconds lease) {
  return "lease_" + std::to_string(lease.count()) + "ms";
}

CgroupIds find_cgroups(const Plan& plan) {
  CgroupIds ids;
  const std::string mount = cgroup2_mount();
  for (const auto& intercept : plan.intercepts) {
    for (const auto& path : intercept.cgroups) {
      struct stat info{};
      if (::stat((mount + path).c_str(), &info) == 0) ids[path] = info.st_ino;
    }
  }
  return ids;
}

}  // namespace sluice::kernel
