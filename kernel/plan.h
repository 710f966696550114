// What the composition root asks of the kernel: plain values, compiled from a policy, with no
// policy type in sight.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sluice::kernel {

// An address in 16 bytes, IPv4 as ::ffff:a.b.c.d, and a length that counts from the first of the
// 128 bits (so 10.0.0.0/8 has length 104). Host bits are zero. ::/0 is all of IPv6 and only that;
// ::ffff:0:0/96 all of IPv4.
struct Prefix {
  std::array<std::uint8_t, 16> address{};
  std::uint8_t length = 0;  // 0 to 128
  bool v4 = false;

  auto operator<=>(const Prefix&) const = default;
};

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 65535;
  auto operator<=>(const PortRange&) const = default;
};

// The ways by which a connection reaches a listener; each has its own sockets, so that the gateway
// knows the way.
enum class WayIn : std::uint8_t { bind = 0, local = 1, forward = 2, output = 3 };
inline constexpr int kWays = 4;

// A listener has one socket per way that it uses and worker. `id` is its index in Plan::listeners.
struct Listener {
  std::string name;
  std::optional<Prefix> bind_address;  // a host prefix; with it: way `bind`
  std::uint16_t bind_port = 0;
  bool express = false;  // its clients on this node may go by the express lane
};

enum class OnExit : std::uint8_t { closed, bypass };

// Who finds the listener's socket for what is caught. `automatic` becomes one of the others when a
// plan is prepared. `tc`, of way forward alone: taken by a program where packets come in, without
// nftables.
enum class SteerBy : std::uint8_t { automatic, sk_lookup, tproxy, tc };

// What becomes of connections that are open when a rule begins to refuse or to catch them.
enum class OnChange : std::uint8_t { keep, drain, reset };

struct Intercept {
  WayIn way = WayIn::local;
  std::vector<Prefix> from;  // forward; empty: any
  std::vector<Prefix> to;
  std::vector<Prefix> except_from;
  std::vector<Prefix> except_to;
  std::vector<PortRange> ports;
  std::vector<std::string> cgroups;  // output; paths below the cgroup2 root, "/a/b"
  std::uint32_t listener = 0;
  OnExit on_exit = OnExit::closed;
  std::chrono::milliseconds lease{3000};
  SteerBy steering = SteerBy::automatic;
  OnChange on_change = OnChange::keep;
  bool block_quic = false;  // forward, output: UDP to port 443 of what is caught is refused
  bool take_over = false;   // local: also where the host itself listens, and its host_ports
  std::string where;        // for messages and nftables comments
};

struct Marks {
  std::uint32_t mark = 0x100000;
  std::uint32_t mask = 0x300000;
  std::uint32_t table = 5177;
  std::uint32_t priority = 5177;

  // Two bits, three values. Each is compared and set under `mask`.
  std::uint32_t intercepted() const {
    return mark;
  }  // forwarded SYNs, replies to transparent sockets
  std::uint32_t gateway() const { return mark << 1; }  // the gateway's own sockets: never caught
  std::uint32_t intercepted_output() const { return mark | mark << 1; }
};

enum class GuardAction : std::uint8_t { drop, count, limit };
enum class GuardDirection : std::uint8_t { ingress, egress, both };
// Where the guard hangs. XDP sees incoming frames of Ethernet devices only.
enum class GuardHook : std::uint8_t { tc, xdp, xdp_generic };

// `packets` in each `per`, and up to `burst` (at least 1) at once.
struct PacketRate {
  std::uint64_t packets = 0;  // at least 1
  std::chrono::nanoseconds per{std::chrono::seconds(1)};
  std::uint64_t burst = 1;
  bool operator==(const PacketRate&) const = default;
};

// Many prefixes that rules share: IPv4 first, by address, without overlap. Immutable.
using PrefixSet = std::shared_ptr<const std::vector<Prefix>>;

// A field is there when its prefixes or its sets are; an empty set names nobody.
struct GuardMatch {
  std::vector<Prefix> from;
  std::vector<Prefix> to;
  std::vector<PortRange> from_ports;
  std::vector<PortRange> to_ports;
  std::vector<PrefixSet> from_sets{};
  std::vector<PrefixSet> to_sets{};
};

struct GuardRule {
  std::string name;  // unique; counters belong to it and survive a reload
  GuardMatch match;
  GuardMatch except;  // all empty: no exception
  std::optional<std::uint8_t> protocol;
  GuardAction action = GuardAction::drop;
  std::optional<PacketRate> rate{};  // of action limit
  GuardDirection direction = GuardDirection::ingress;
  // Where the rule holds: names and globs; empty: auto; absent: wherever GuardPlan::interfaces
  // says.
  std::optional<std::vector<std::string>> interfaces{};
  bool audit = false;  // counts what it would drop, and drops nothing
};

struct Protect {
  Prefix peer;
  std::vector<PortRange> to_ports;      // of the packet's destination; empty: all
  std::vector<std::string> interfaces;  // names and globs; empty: all
  // One of the policy's own upstreams: never dropped or banned, but a client's connection to it may
  // be intercepted (that is what a gateway is for), and it may be a client itself.
  bool upstream = false;
  // Connections to it are left alone, its own are not: a default gateway that translates addresses
  // is everybody.
  bool server_only = false;
  bool operator==(const Protect&) const = default;
};

struct GuardPlan {
  bool enabled = false;                 // attach at all (rules, or bans that drop)
  std::vector<std::string> interfaces;  // empty: auto; names and globs
  GuardHook hook = GuardHook::tc;
  bool first = true;  // before other people's TC programs
  std::vector<GuardRule> rules;
  std::optional<PacketRate> source_syn{};   // TCP SYNs of one IPv4 address, or one IPv6 /64
  std::optional<PacketRate> service_syn{};  // TCP SYNs to one address and port
  bool audit_syn = false;
  bool monitor_services = false;  // counts what comes in by destination, see Seen
  bool monitor_sources = false;   // and by source: an IPv4 address, or an IPv6 /64
  std::uint32_t max_bans = 100000;
  std::vector<Prefix> never_banned{};  // beside what protect names: who speaks for many others
  // On trial: from then on, unless it is settled before, the rules of the plan before are in force
  // again, even with nobody alive. See trial.h.
  std::optional<std::chrono::steady_clock::time_point> revert_at{};
};

// What goes to vendors around the gateway.
struct VendorPlan {
  bool reject = false;  // new connections to `ports`; else all of it is counted alone
  std::vector<PortRange> ports;
  std::vector<Prefix> hosts;  // with an address in the policy; the others come from DNS
};

struct Plan {
  std::uint64_t generation = 0;
  std::uint32_t workers = 1;  // 1 to 64
  std::vector<Listener> listeners;
  std::vector<Intercept> intercepts;
  bool client_source = false;  // some upstream is reached from the client's address
  Marks marks;
  std::vector<Protect> protect;  // the operator's, and the policy's own upstreams
  std::vector<std::uint16_t>
      host_ports;  // of the node's own addresses: never intercepted, dropped or banned
  GuardPlan guard;
  // Where entries of steering tc take connections: names and globs; empty: all but lo.
  std::vector<std::string> tc_interfaces{};
  std::optional<VendorPlan> vendors{};
  bool express_upstreams = false;  // connections of the gateway's own may go by the express lane
};

// Packets are marked and routed: something is caught, or answers to a client's address come back.
inline bool uses_marks(const Plan& plan) {
  return !plan.intercepts.empty() || plan.client_source;
}

}  // namespace sluice::kernel
