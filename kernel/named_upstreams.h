// Upstreams that the policy knows by name: their addresses come from DNS, and the kernel spares them
// as it spares those with an address.
#pragma once

#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// As the gateway resolved them; at most Guard::kMaxNamedUpstreams hosts, from the next tick on. A
// gateway that lies can spare so many peers and no more.
void protect_named_upstreams(Keeper& keeper, std::vector<Prefix> hosts);

// Where vendors are (Plan::vendors), the same way; at most VendorTraffic::kMaxHosts of them. With
// `reject` a gateway that lies can have this node refuse connections to so many hosts that
// `protect` does not name, and no more.
void follow_vendors(Keeper& keeper, std::vector<Prefix> hosts);
// Those that are in force.
std::vector<Prefix> vendors_followed(const Keeper& keeper);

}  // namespace sluice::kernel
