// Why: the matchers that decide, run for a described packet or request, with the reasons kept.
// Pure and offline; what only the running system knows (bans, the node's addresses) is given.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/address.h"
#include "policy/diagnostic.h"
#include "policy/request.h"
#include "policy/snapshot.h"

namespace sluice::policy {

// One thing that was looked at and what came of it.
struct Reason {
  std::string text;  // "route `api`: host is a.example, not b.example"
  Location where;    // the entry that is spoken of; line 0: a default
};

// One phase of the way, in the order of the way. Phases are named as in logs and metrics: protect,
// bans, guard, syn_rate, intercept, steering, listener, head, client, access, limits, route,
// authority, auth, access, limits, upstream, balance. Bans, access and limits come twice: of the
// kernel and of the gateway, of the listener and of the route.
struct Step {
  std::string phase;
  std::string verdict;  // short: "dropped by rule `no-telnet`", "no rule names it"
  Location where;       // what decided; line 0: nothing in the policy did
  std::vector<Reason> reasons;
  bool final = false;     // the packet or request goes no further
  std::string name = {};  // of the rule, route, listener or upstream that decided; "": none
};

// What becomes of it, in a word.
enum class Verdict : std::uint8_t {
  pass,     // goes on as if there were no Sluice
  drop,     // by the guard: a rule, a ban
  caught,   // a listener gets it; what comes after depends on what the client says
  forward,  // to an upstream
  refuse,   // answered by us: `status`; a connection that is not HTTP is closed
};

struct Explanation {
  std::vector<Step> steps;
  std::string
      outcome;  // one line: "dropped by guard rule `no-telnet`", "forwarded to upstream `api`"
  bool passes = true;  // to an upstream, or on its way
  Verdict verdict = Verdict::pass;
  int status = 0;                         // of refuse, where it is HTTP
  std::optional<std::uint32_t> listener;  // in Config::listeners; that gets the connection
  Way way = Way::bind;                    // by which it gets it

  // The step of a phase; null: it was not taken.
  const Step* find(std::string_view phase) const;
};

enum class PacketDirection : std::uint8_t { ingress, egress };

struct PacketDescription {
  IpAddress from;
  IpAddress to;
  std::uint8_t protocol = 6;  // IANA number
  std::uint16_t from_port = 0;
  std::uint16_t to_port = 0;
  PacketDirection direction = PacketDirection::ingress;
  std::string interface;       // "": not said; what names interfaces is then taken to hold
  bool first_fragment = true;  // later ones carry no ports
  // How the packet would reach a listener: `local` where the node has (or is steered) the address,
  // `forward` where it passes through, `output` for the node's own. Not said: looked for in that
  // order.
  std::optional<Way> way;
  std::string cgroup;  // output: of the process, below the cgroup2 root
};

struct RequestDescription {
  std::string listener;  // "": the only one
  Way way = Way::bind;
  IpAddress client;  // who connects; unspecified: not said
  // Who a trusted proxy says it speaks for.
  struct Claim {
    IpAddress client;
    std::string by;  // "X-Forwarded-For of the trusted proxy 10.0.0.1"
  };
  std::optional<Claim> claim;
  std::optional<SocketAddress> destination;  // original
  std::string method = "GET";
  std::string host;    // as a client would send it
  std::string target;  // path in normal form (the gateway's normalise_path), perhaps with "?query"
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::string> certificate_names;
  std::vector<std::pair<std::string, std::string>> claims;
};

// What the gateway knows of its upstreams and limits at this moment.
class LiveGateway {
 public:
  struct EndpointState {
    std::string name;   // "10.0.0.1:80"
    std::string state;  // "healthy", "unhealthy", "ejected", "drained"
    std::uint32_t weight = 1;
    std::uint32_t active_requests = 0;
    bool available = true;
  };
  virtual std::vector<EndpointState> endpoints(std::uint32_t upstream) const = 0;
  // What the limit would say now, without taking anything.
  struct LimitState {
    bool allowed = true;
    std::string text;  // "87 of 200 left"
  };
  virtual LimitState limit(std::uint32_t limit, const RequestView& request, std::uint64_t route_id,
                           std::uint32_t cost) const = 0;
  // Who is banned here and not in the kernel.
  struct OwnBan {
    Prefix source;
    std::string upstream;  // where it goes; "": it is refused where a proxy says who it is
    std::optional<std::uint32_t> index;  // of the upstream; none: the policy has it no more
    std::uint64_t seconds_left = 0;
    std::string reason;
  };
  virtual std::optional<OwnBan> ban(const IpAddress& client) const = 0;

 protected:
  ~LiveGateway() = default;
};

// What only the running system knows. All may stay empty.
struct LiveState {
  struct Ban {
    Prefix source;
    std::string reason;
  };
  // A peer that is protected though the policy does not say so: its packets are never dropped, and
  // connections to `to_ports` of it are not intercepted.
  struct BuiltIn {
    Prefix peer;
    std::vector<PortRange> to_ports;  // empty: all
    std::string what;                 // "a default gateway"
  };
  // How an entry of `intercept` finds its listener, by the entry's place.
  struct Steering {
    Location where;
    std::string by;  // "sk_lookup", "tproxy"
  };
  std::span<const Ban> bans = {};
  std::span<const IpAddress> node_addresses = {};  // for protect.host_ports
  std::span<const BuiltIn> built_in = {};
  std::span<const Steering> steering = {};
  // Interfaces that `auto` of the guard stands for; nullopt: not known.
  std::optional<std::span<const std::string>> auto_interfaces = std::nullopt;
  // Addresses that `ai.bypass` takes for vendors'; nullopt: not known.
  std::optional<std::span<const IpAddress>> vendors = std::nullopt;
  const LiveGateway* gateway = nullptr;
};

struct PacketView;  // policy/drop_rules.h
// As rules of the guard see it: ports only where the packet carries them.
PacketView view_of(const PacketDescription& packet, const LiveState& live = {});

// Index in Config::listeners. "": the only one.
std::optional<std::uint32_t> listener_of(const Snapshot& snapshot, const std::string& name);

// Guard and interception: what becomes of a packet, up to the listener that would get it.
Explanation explain(const Snapshot& snapshot, const PacketDescription& packet,
                    const LiveState& live = {});
// From the listener on.
Explanation explain(const Snapshot& snapshot, const RequestDescription& request,
                    const LiveState& live = {});
// From the listener on, of what is no HTTP request: by `listener`, `way`, `client`, `destination`
// and `host` (the name asked for in TLS) alone. Where the listener speaks HTTP it ends at the head.
Explanation explain_connection(const Snapshot& snapshot, const RequestDescription& connection,
                               const LiveState& live = {});
// The whole way: the packet that opens a connection, and what its listener makes of it. Without
// `request`, of a listener that speaks HTTP, it ends there. Listener, way, client and destination
// of `request` are taken from the packet.
Explanation explain(const Snapshot& snapshot, const PacketDescription& packet,
                    const RequestDescription* request, const LiveState& live = {});
// All that is known of an address as a source, by whoever knows it.
enum class KnownBy : std::uint8_t { kernel, gateway, all };
Explanation explain_source(const Snapshot& snapshot, const IpAddress& source, KnownBy known_by,
                           const LiveState& live = {});

}  // namespace sluice::policy
