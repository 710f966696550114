// XDP by links: in the driver, or the kernel's generic one. One program an interface, so another's
// is never replaced.
#pragma once

#include "kernel/guard_entry.h"
#include "kernel/interfaces.h"

namespace sluice::kernel {

// Never the other mode than asked for. Errors say what stands in the way: another's program, a
// driver without XDP, an interface without Ethernet frames.
AttachResult attach_xdp(int program, const Interface& where, bool generic);

unsigned xdp_interface(int link);  // 0: none any more
bool xdp_is_generic(unsigned interface_index);

}  // namespace sluice::kernel
