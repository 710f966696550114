// The node's interfaces, addresses and default routes, from rtnetlink, in the calling thread's
// network namespace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"
#include "kernel/plan.h"

namespace sluice::kernel {

struct Interface {
  unsigned index = 0;
  std::string name;
  bool up = false;
  bool loopback = false;
  bool ethernet = false;  // frames begin with an Ethernet header
  unsigned master = 0;    // the bridge or bond that it is a port of
  unsigned beneath = 0;   // what it stands on in this network namespace, as a VLAN does
  bool operator==(const Interface&) const = default;
};

struct DefaultRoute {
  unsigned interface_index = 0;  // a route of several next hops is listed once for each
  bool has_gateway = false;
  Prefix gateway;  // a host
  bool operator==(const DefaultRoute&) const = default;
};

struct NodeNetwork {
  std::vector<Interface> interfaces;
  std::vector<DefaultRoute> default_routes;  // IPv4 and IPv6, of the main table
  std::vector<Prefix> addresses;             // the node's own, as host prefixes
  bool operator==(const NodeNetwork&) const = default;
};

// Errors: no netlink socket, or a dump that was refused.
Result<NodeNetwork> read_node_network();

// Name servers of /etc/resolv.conf; what is not an address is passed over.
std::vector<Prefix> read_resolvers(const std::string& path = "/etc/resolv.conf");

// Everybody who answers for the network itself, gateways and resolvers: losing one of them loses
// the node.
std::vector<Prefix> network_peers(const NodeNetwork& network);

// What `interfaces` of a policy names: names and globs. Empty: auto, those with a default route,
// or, when there is none, every one that is up. The loopback interface only by its name.
std::vector<Interface> select_interfaces(const NodeNetwork& network,
                                         const std::vector<std::string>& patterns);
// All that a guard's `interfaces` and those of its rules name, each once.
std::vector<std::string> named_interfaces(const GuardPlan& guard);
// Of patterns, the names that no interface has; what a glob was to find nobody knows.
std::vector<std::string> missing_interfaces(const NodeNetwork& network,
                                            const std::vector<std::string>& patterns);

// Says when links, addresses or routes have changed. One thread.
class NetworkChanges {
 public:
  static Result<NetworkChanges> subscribe();
  int fd() const { return socket_.get(); }
  bool changed();  // since the last call; a lost message counts as a change

 private:
  protocol::OwnedFd socket_;
};

}  // namespace sluice::kernel
