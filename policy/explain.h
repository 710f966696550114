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
#include "policy/snapshot.h"

namespace sluice::policy {

// One thing that was looked at and what came of it.
struct Reason {
  std::string text;  // "route `api`: host is a.example, not b.example"
  Location where;    // the entry that is spoken of; line 0: a default
};

// One phase of the way, in the order of the way. Phases are named as in logs and metrics: protect,
// bans, guard, intercept, listener, access, route, limits, upstream, balance.
struct Step {
  std::string phase;
  std::string verdict;  // short: "dropped by rule `no-telnet`", "no rule names it"
  Location where;       // what decided; line 0: nothing in the policy did
  std::vector<Reason> reasons;
  bool final = false;  // the packet or request goes no further
};

struct Explanation {
  std::vector<Step> steps;
  std::string
      outcome;  // one line: "dropped by guard rule `no-telnet`", "forwarded to upstream `api`"
  bool passes = true;  // to an upstream, or on its way
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
  IpAddress client;
  std::optional<SocketAddress> destination;  // original
  std::string method = "GET";
  std::string host;    // as a client would send it
  std::string target;  // path in normal form (the gateway's normalise_path), perhaps with "?query"
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::string> certificate_names;
};

// What only the running system knows. All may stay empty.
struct LiveState {
  struct Ban {
    Prefix source;
    std::string reason;
  };
  std::span<const Ban> bans;
  std::span<const IpAddress> node_addresses;  // for protect.host_ports
};

// Guard and interception: what becomes of a packet, up to the listener that would get it.
Explanation explain(const Snapshot& snapshot, const PacketDescription& packet,
                    const LiveState& live = {});
// From the listener on.
Explanation explain(const Snapshot& snapshot, const RequestDescription& request,
                    const LiveState& live = {});

}  // namespace sluice::policy
