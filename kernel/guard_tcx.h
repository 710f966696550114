// TC by tcx links (Linux 6.6): a chain of programs at each end of an interface.
#pragma once

#include <optional>

#include "kernel/guard_entry.h"
#include "kernel/interfaces.h"

namespace sluice::kernel {

// `entry`: one of TC's. EINVAL is the answer of a kernel before 6.6.
AttachResult attach_tcx(int program, const Interface& where, GuardEntry entry, bool first);

// At ingress, before other people's programs but right behind `link`, which hangs there. An invalid
// `link`, or one that hangs elsewhere: before all. Errors name `what`.
AttachResult attach_tcx_behind(int program, const Interface& where, const Descriptor& link,
                               const char* what);

// The interface that the link hangs on; 0: none any more.
unsigned tcx_interface(int link);

// Whether the link stands before all others (true) or behind them (false); absent: alone, in
// between, or not known.
std::optional<bool> tcx_position(int link, unsigned interface_index, GuardEntry entry);

}  // namespace sluice::kernel
