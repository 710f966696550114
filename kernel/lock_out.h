// Whether a plan would take from this host a port on which it listens.
#pragma once

#include <set>

#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// Errors name the first such port and the entry; entries with take_over, and host_ports of others,
// are passed over. `ours`: ports of our own listening sockets.
Result<void> check_lock_out(const Plan& plan, const NodeView& node,
                            const std::set<std::uint16_t>& ours);

}  // namespace sluice::kernel
