// By which interfaces packets of a peer come and go, as far as routes tell.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernel/interfaces.h"
#include "kernel/keeper_protocol.h"

namespace sluice::kernel {

// One thread; of the node as it was when the network was read.
class PeerInterfaces {
 public:
  explicit PeerInterfaces(NodeNetwork network);

  const NodeNetwork& network() const { return network_; }
  // The one that the route to it names, and those below it: ports of a bridge or bond, what a VLAN
  // stands on. Empty: nobody knows.
  const std::vector<std::string>& of(const Prefix& peer);

 private:
  unsigned route_to(const Prefix& peer) const;
  void add_with_those_below(unsigned index, std::vector<std::string>& names) const;

  NodeNetwork network_;
  protocol::OwnedFd socket_;  // of rtnetlink; none: of nobody anything is known
  std::map<Prefix, std::vector<std::string>> known_;
};

}  // namespace sluice::kernel
