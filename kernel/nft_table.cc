#include "kernel/nft_table.h"

#include <algorithm>
#include <linux/netfilter.h>
#include <optional>
#include <sstream>
#include <sys/stat.h>

#include "kernel/cgroup_mount.h"
#include "kernel/nft_entries.h"
#include "kernel/nft_sets.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr std::int32_t kMangle = -150;
constexpr NftHook kPreroutingHook{"filter", NF_INET_PRE_ROUTING, kMangle};
constexpr NftHook kInputHook{"filter", NF_INET_LOCAL_IN, kMangle};
constexpr NftHook kOutputHook{"route", NF_INET_LOCAL_OUT, kMangle};
constexpr const char* kPrerouting = "prerouting";
constexpr const char* kInput = "input";
constexpr const char* kOutput = "output";
constexpr const char* kOnLo = "on_lo";
constexpr const char* kLocal = "local";
constexpr std::uint16_t kHttps = 443;
using Side = NftRule::Side;

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
      : batch_(batch), sets_(batch), plan_(plan), options_(options) {}

  int write() {
    batch_.add_table();
    batch_.delete_table();
    batch_.add_table();
    for (const auto lease : leases_of(plan_)) {
      batch_.add_timeout_set(lease_set(lease));
      if (options_.gateway_serves) batch_.renew_timeout_elements(lease_set(lease), lease);
    }
    write_prerouting();
    if (options_.judge_syns && (has(WayIn::forward) || has(WayIn::output))) write_input();
    if (has(WayIn::output) || plan_.client_source) write_output();
    return rules_;
  }

 private:
  template <typename Wanted>
  bool any(WayIn way, Wanted wanted) const {
    return std::any_of(
        plan_.intercepts.begin(), plan_.intercepts.end(),
        [&](const Intercept& intercept) { return intercept.way == way && wanted(intercept); });
  }
  bool has(WayIn way) const {
    return any(way, [](const Intercept&) { return true; });
  }
  bool has_tproxy(WayIn way) const {
    return any(way, [](const Intercept& entry) { return entry.steering == SteerBy::tproxy; });
  }

  void add(const std::string& chain, const NftRule& rule) {
    batch_.add_rule(chain, rule);
    rules_++;
  }

  // --- chains ----------------------------------------------------------------------------------

  void write_prerouting() {
    const Marks& marks = plan_.marks;
    batch_.add_chain(kPrerouting, kPreroutingHook);
    write_quic(kPrerouting, WayIn::forward);
    write_icmp_errors();
    add(kPrerouting, std::move(NftRule().is_tcp(false).accept()));
    // What this node sends to itself was judged in `output`, and keeps its mark over lo.
    if (!options_.tproxy_ports.empty()) write_on_lo();
    add(kPrerouting, std::move(NftRule().came_by("lo").accept()));
    // `socket` finds our listening sockets too, by sk_lookup: packets of a connection that bypasses
    // must not follow them.
    const std::string open = write_resets(WayIn::forward);
    if (!open.empty())
      add(kPrerouting,
          std::move(
              NftRule().is_tcp().opens_connection(false).has_wildcard_socket().from_opener().jump(
                  open)));
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
    if (!open.empty())
      add(kPrerouting,
          std::move(NftRule().is_tcp().opens_connection(false).from_opener().jump(open)));
    add(kPrerouting, std::move(NftRule().is_tcp().opens_connection(false).accept()));
    if (!options_.judge_syns) return;
    if (has_tproxy(WayIn::local)) {
      write_protected_clients();
      add(kPrerouting, NftRule().jump(kLocal));
    }
    write_guard_of_ports(kPrerouting);
    if (!has(WayIn::forward)) return;
    add(kPrerouting, std::move(NftRule().destination_is_local().accept()));
    write_protect(kPrerouting, WayIn::forward);
    for (const auto& part : parts(WayIn::forward))
      write_entry(kPrerouting, part, verdict_chain(plan_.intercepts[part.entry]));
  }

  // What is turned to this node while the lease of a gateway that died is still held finds no
  // socket of ours. IPv4 is silent then: the kernel has no route for an answer with a foreign
  // source. IPv6 would answer: RST, or SYN-ACK from whatever listens on [::] of the host's.
  void write_input() {
    batch_.add_chain(kInput, kInputHook);
    if (has(WayIn::forward)) write_unserved(plan_.marks.intercepted());
    if (has(WayIn::output)) write_unserved(plan_.marks.intercepted_output());
  }

  void write_unserved(std::uint32_t turned) {
    const auto turned_syn = [&] {
      NftRule rule;
      rule.mark_is(turned, plan_.marks.mask).is_version(false).is_tcp().opens_connection(true);
      return rule;
    };
    add(kInput, turned_syn().has_transparent_socket().accept());
    add(kInput, turned_syn().drop().comment("nobody serves: the client tries again"));
  }

  // Errors about what is proxied (above all: too big, by which TCP finds the path's MTU) go to an
  // address that is not ours: `socket` finds ours by the packet that is quoted. It finds listeners,
  // too, for connections that flow past.
  void write_icmp_errors() {
    const Marks& marks = plan_.marks;
    for (const bool v4 : {true, false}) {
      add(kPrerouting, std::move(NftRule().is_icmp(v4).has_wildcard_socket().accept()));
      add(kPrerouting, std::move(NftRule()
                                     .is_icmp(v4)
                                     .has_transparent_socket()
                                     .set_mark(marks.intercepted(), marks.mask)
                                     .accept()
                                     .comment("ICMP errors about what is proxied")));
    }
  }

  void write_output() {
    const Marks& marks = plan_.marks;
    batch_.add_chain(kOutput, kOutputHook);
    // An upstream on this node answers a client's address: by its mark the answer comes back to us.
    if (plan_.client_source)
      add(kOutput, std::move(NftRule()
                                 .mark_is(marks.gateway(), marks.mask)
                                 .is_tcp()
                                 .opens_connection(true)
                                 .destination_is_local()
                                 .set_ct_mark(marks.intercepted_output(), marks.mask)
                                 .accept()
                                 .comment("from a client's address to this node")));
    write_own_sockets(kOutput);
    write_quic(kOutput, WayIn::output);
    add(kOutput, std::move(NftRule().is_tcp(false).accept()));
    add(kOutput, std::move(proxied(marks).comment("what is proxied")));
    for (const Marks& former : options_.former_marks)
      add(kOutput, std::move(proxied(former).comment("likewise, since before a reload")));
    if (const std::string open = write_resets(WayIn::output); !open.empty())
      add(kOutput, std::move(NftRule().is_tcp().opens_connection(false).from_opener().jump(open)));
    add(kOutput, std::move(NftRule().is_tcp().opens_connection(false).accept()));
    // A SYN that is sent again may be judged otherwise than the first.
    add(kOutput, std::move(NftRule()
                               .ct_mark_is(marks.intercepted_output(), marks.mask)
                               .set_ct_mark(0, marks.mask)));
    if (!options_.judge_syns) return;
    add(kOutput, std::move(NftRule().destination_is_local().accept()));
    write_protect(kOutput, WayIn::output);
    for (const auto& part : whole_entries(plan_, WayIn::output))
      write_entry(kOutput, part, verdict_chain(plan_.intercepts[part.entry]));
  }

  void write_own_sockets(const std::string& chain) {
    add(chain, std::move(NftRule()
                             .mark_is(plan_.marks.gateway(), plan_.marks.mask)
                             .accept()
                             .comment("the gateway's own sockets")));
    for (const Marks& former : options_.former_marks)
      add(chain, std::move(NftRule().mark_is(former.gateway(), former.mask).accept()));
  }

  // By the mark that connections got under `then`.
  NftRule proxied(const Marks& then) const {
    const Marks& now = plan_.marks;
    return std::move(NftRule()
                         .is_tcp()
                         .opens_connection(false)
                         .ct_mark_is(then.intercepted_output(), then.mask)
                         .set_mark(now.intercepted_output(), now.mask)
                         .accept());
  }

  // What this node sends to itself, and what `output` turned to it.
  void write_on_lo() {
    const Marks& marks = plan_.marks;
    batch_.add_chain(kOnLo);
    add(kPrerouting,
        std::move(NftRule().came_by("lo").is_tcp().opens_connection(true).jump(kOnLo)));
    write_own_sockets(kOnLo);
    if (has_tproxy(WayIn::output)) {
      batch_.add_chain("caught_output");
      add(kOnLo,
          std::move(
              NftRule().mark_is(marks.intercepted_output(), marks.mask).jump("caught_output")));
      for (auto part : by_specificity(plan_, WayIn::output)) {
        NftRule rule;
        if (!match_part(rule, part, "caught" + std::to_string(matches_++))) continue;
        give_to_listener(rule, plan_.intercepts[part.entry]);
        add("caught_output", rule.accept());
      }
    }
    if (has_tproxy(WayIn::local) && options_.judge_syns) {
      write_local();
      add(kOnLo, NftRule().jump(kLocal));
    }
    write_guard_of_ports(kOnLo);
  }

  // Nobody comes to the ports of our own sockets directly, as steer.bpf.c has it.
  void write_guard_of_ports(const std::string& chain) {
    if (options_.tproxy_ports.empty()) return;
    std::vector<PortRange> ports;
    for (const auto& [key, port] : options_.tproxy_ports)
      ports.push_back({port, port});
    const std::string name = "own_ports_" + chain;
    sets_.add_ports(name, ports);
    add(chain,
        std::move(NftRule().destination_is_local().is_tcp().destination_port_in(name).drop()));
  }

  // --- local by tproxy -------------------------------------------------------------------------

  void write_local() {
    batch_.add_chain(kLocal);
    for (const bool v4 : {true, false})
      sets_.add_addresses(own_set(v4), v4, options_.node.addresses);
    std::vector<PortRange> host_ports;
    for (const auto port : plan_.host_ports)
      host_ports.push_back({port, port});
    sets_.add_ports("host_ports", host_ports);
    for (const auto& part : by_specificity(plan_, WayIn::local)) {
      const bool leaves = !plan_.intercepts[part.entry].take_over && !host_ports.empty();
      if (leaves) write_local_part(part, true);
      write_local_part(part, false);
    }
  }

  static std::string own_set(bool v4) { return v4 ? "own_v4" : "own_v6"; }

  // `host_first`: of the node's own addresses, what belongs to the host goes there.
  void write_local_part(const EntryPart& part, bool host_first) {
    NftRule rule;
    if (!match_part(rule, part, "local" + std::to_string(matches_++))) return;
    if (host_first) {
      rule.address_in(Side::destination, part.v4, own_set(part.v4))
          .destination_port_in("host_ports");
    } else {
      give_to_listener(rule, plan_.intercepts[part.entry]);
    }
    add(kLocal, rule.accept());
  }

  // Clients that reach the host itself on its own addresses.
  void write_protected_clients() {
    for (const auto& protect : plan_.protect) {
      if (protect.upstream || protect.server_only) continue;
      const auto name = protect_sets(protect);
      for (const auto& interface : interfaces_of(protect)) {
        NftRule rule;
        if (!interface.empty()) rule.came_by(interface);
        const bool v4 = protect.peer.v4;
        rule.is_version(v4)
            .address_in(Side::source, v4, name)
            .address_in(Side::destination, v4, own_set(v4));
        if (!protect.to_ports.empty()) rule.destination_port_in(name + "_ports");
        add(kPrerouting, rule.accept());
      }
    }
  }

  // A rule of one port serves all workers: they share it, and the kernel spreads by the flow.
  void give_to_listener(NftRule& rule, const Intercept& intercept) {
    if (intercept.steering == SteerBy::tproxy) rule.tproxy_to(port_of(intercept));
  }

  std::uint16_t port_of(const Intercept& intercept) const {
    const auto found = options_.tproxy_ports.find({intercept.listener, intercept.way});
    return found == options_.tproxy_ports.end() ? std::uint16_t{0} : found->second;
  }

  // --- protect ---------------------------------------------------------------------------------

  // Adds the sets that match the peer.
  std::string protect_sets(const Protect& protect) {
    const std::string name = "protect" + std::to_string(protects_++);
    sets_.add_addresses(name, protect.peer.v4, {protect.peer});
    if (!protect.to_ports.empty()) sets_.add_ports(name + "_ports", protect.to_ports);
    return name;
  }

  // Names; one empty name: any interface.
  std::vector<std::string> interfaces_of(const Protect& protect) const {
    if (protect.interfaces.empty()) return {""};
    return matching_interfaces(options_.node, protect.interfaces);
  }

  // Peers that are never intercepted: as client or server of a forwarded connection, as server of
  // our own.
  void write_protect(const std::string& chain, WayIn way) {
    for (const auto& protect : plan_.protect) {
      if (protect.upstream) continue;
      const std::string name = protect_sets(protect);
      for (const auto& interface : interfaces_of(protect)) {
        write_protected_peer(chain, way, Side::destination, protect, name, interface);
        if (way == WayIn::forward && !protect.server_only)
          write_protected_peer(chain, way, Side::source, protect, name, interface);
      }
    }
  }

  void write_protected_peer(const std::string& chain, WayIn way, Side side, const Protect& protect,
                            const std::string& name, const std::string& interface) {
    NftRule rule;
    if (!interface.empty())
      way == WayIn::forward ? rule.came_by(interface) : rule.leaves_by(interface);
    rule.is_version(protect.peer.v4).address_in(side, protect.peer.v4, name);
    if (!protect.to_ports.empty()) rule.destination_port_in(name + "_ports");
    add(chain, rule.accept());
  }

  // --- entries ---------------------------------------------------------------------------------

  std::vector<EntryPart> parts(WayIn way) const {
    return has_tproxy(way) ? by_specificity(plan_, way) : whole_entries(plan_, way);
  }

  // IP version, addresses, ports. False: nothing can match.
  bool match_part(NftRule& rule, const EntryPart& part, const std::string& name) {
    const Intercept& intercept = plan_.intercepts[part.entry];
    rule.is_version(part.v4);
    if (!sets_.match_address(rule, Side::source, part.v4, name + "_from", intercept.from,
                             intercept.except_from))
      return false;
    if (!sets_.match_address(rule, Side::destination, part.v4, name + "_to", part.to,
                             intercept.except_to))
      return false;
    const std::string ports = sets_.ports_of(name + "_ports", part.ports);
    if (!ports.empty()) rule.destination_port_in(ports);
    return true;
  }

  // A rule for each control group, else one; what of it comes before the addresses.
  std::vector<NftRule> by_cgroup(const Intercept& intercept) const {
    std::vector<NftRule> rules;
    if (intercept.cgroups.empty()) rules.emplace_back();
    for (const auto& path : intercept.cgroups) {
      // Of one that does not exist nobody can be a member; tick() writes the table again when it
      // appears.
      const auto id = options_.cgroups.find(path);
      if (id == options_.cgroups.end()) continue;
      rules.emplace_back();
      rules.back().in_cgroup(id->second, level_of(path));
    }
    return rules;
  }

  void write_entry(const std::string& chain, const EntryPart& part, const std::string& verdict) {
    const Intercept& intercept = plan_.intercepts[part.entry];
    for (auto& rule : by_cgroup(intercept)) {
      if (!match_part(rule, part, "entry" + std::to_string(matches_++))) return;
      add(chain, rule.jump(verdict).comment(intercept.where));
    }
  }

  // What a matching SYN gets: the mark while the lease is held; without it, its entry's on_exit.
  std::string verdict_chain(const Intercept& intercept) {
    const bool output = intercept.way == WayIn::output;
    const bool closed = intercept.on_exit == OnExit::closed;
    const std::uint16_t port =
        !output && intercept.steering == SteerBy::tproxy ? port_of(intercept) : 0;
    const std::string name = std::string(to_text(intercept.way)) +
                             (closed ? "_closed_" : "_bypass_") +
                             std::to_string(intercept.lease.count()) + "ms" +
                             (port != 0 ? "_to_" + std::to_string(port) : "");
    if (!verdict_chains_.insert(name).second) return name;
    const Marks& marks = plan_.marks;
    batch_.add_chain(name);
    NftRule held;
    held.protocol_in(lease_set(intercept.lease));
    // Without a listener the rule ends at tproxy: marked before it the packet would go nowhere, so
    // that `bypass` has the mark after it.
    if (port != 0 && !closed) held.tproxy_to(port);
    if (output) held.set_ct_mark(marks.intercepted_output(), marks.mask);
    held.set_mark(output ? marks.intercepted_output() : marks.intercepted(), marks.mask);
    if (port != 0 && closed) held.tproxy_to(port);
    add(name, held.accept());
    NftRule without;
    closed ? without.drop() : without.accept();
    add(name, without);
    return name;
  }

  // --- QUIC, and connections that were open before ----------------------------------------------

  // HTTP/3 would pass by a rule that catches port 443: refused, so that clients use TCP.
  void write_quic(const std::string& chain, WayIn way) {
    const auto blocks = [](const Intercept& entry) { return entry.block_quic; };
    if (!options_.judge_syns || !any(way, blocks)) return;
    const std::string judge = std::string("quic_") + to_text(way);
    batch_.add_chain(judge);
    add(chain, std::move(NftRule().is_udp().destination_port_is(kHttps).jump(judge)));
    add(judge, std::move(NftRule().destination_is_local().accept()));
    write_protect(judge, way);
    for (auto part : whole_entries(plan_, way)) {
      if (!blocks(plan_.intercepts[part.entry])) continue;
      part.ports.clear();
      write_entry(judge, part, while_held(plan_.intercepts[part.entry], "quic"));
    }
  }

  // Connections past us that a rule with `on_change: reset` would catch: ended, so that they come
  // again and are caught. The chain's name; empty: no rule says so.
  std::string write_resets(WayIn way) {
    const auto resets = [](const Intercept& entry) { return entry.on_change == OnChange::reset; };
    if (!options_.judge_syns || !any(way, resets)) return {};
    const std::string judge = std::string("open_") + to_text(way);
    batch_.add_chain(judge);
    add(judge, std::move(NftRule().destination_is_local().accept()));
    write_protect(judge, way);
    for (const auto& part : whole_entries(plan_, way)) {
      if (!resets(plan_.intercepts[part.entry])) continue;
      write_entry(judge, part, while_held(plan_.intercepts[part.entry], "reset"));
    }
    return judge;
  }

  // Refuses while the lease is held; without it, what `bypass` lets through passes.
  std::string while_held(const Intercept& intercept, const std::string& what) {
    const bool closed = intercept.on_exit == OnExit::closed;
    const bool quic = what == "quic";
    const std::string name = what + (closed && quic ? "_always" : "_" + lease_set(intercept.lease));
    if (!verdict_chains_.insert(name).second) return name;
    batch_.add_chain(name);
    NftRule rule;
    if (!closed || !quic) rule.protocol_in(lease_set(intercept.lease));
    quic ? rule.reject() : rule.reset_tcp();
    add(name, rule);
    return name;
  }

  NftBatch& batch_;
  NftSets sets_;
  const Plan& plan_;
  const NftTableOptions& options_;
  std::set<std::string> verdict_chains_;
  int protects_ = 0;
  int matches_ = 0;
  int rules_ = 0;
};

}  // namespace

int write_nft_table(NftBatch& batch, const Plan& plan, const NftTableOptions& options) {
  return TableWriter(batch, plan, options).write();
}

void write_nft_removal(NftBatch& batch) {
  // A deletion of what is not there fails: create it first.
  batch.add_table();
  batch.delete_table();
}

bool depends_on_node(const Plan& plan) {
  const auto by_interface = [](const Protect& protect) { return !protect.interfaces.empty(); };
  const auto by_address = [](const Intercept& intercept) {
    return intercept.way == WayIn::local && intercept.steering == SteerBy::tproxy;
  };
  return std::any_of(plan.protect.begin(), plan.protect.end(), by_interface) ||
         std::any_of(plan.intercepts.begin(), plan.intercepts.end(), by_address);
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
      struct stat info {};
      if (::stat((mount + path).c_str(), &info) == 0) ids[path] = info.st_ino;
    }
  }
  return ids;
}

std::vector<std::string> missing_cgroups(const Plan& plan, const CgroupIds& there) {
  std::set<std::string> missing;
  for (const auto& intercept : plan.intercepts) {
    for (const auto& path : intercept.cgroups) {
      if (!there.contains(path)) missing.insert(path);
    }
  }
  return {missing.begin(), missing.end()};
}

}  // namespace sluice::kernel
