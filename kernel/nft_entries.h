// What of an intercept entry one nftables rule can say, in the order in which rules must ask. Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel {

struct EntryPart {
  std::size_t entry = 0;  // index in Plan::intercepts
  bool v4 = true;
  std::vector<Prefix> to;
  std::vector<PortRange> ports;  // empty: any
};

// The entries of a way, once for each IP version, as the policy has them.
std::vector<EntryPart> whole_entries(const Plan& plan, WayIn way);

// The same, cut by how specific their pieces are: longer prefix, then exact port, narrower range,
// any port, then the policy's order. The first part that matches is the one that steer_table.h
// would choose.
std::vector<EntryPart> by_specificity(const Plan& plan, WayIn way);

}  // namespace sluice::kernel
