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

}  // namespace sluice::kernel
