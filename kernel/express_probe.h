// Whether the express lane can be used on this kernel, by trying it.
#pragma once

#include <string>

namespace sluice::kernel {

// Needs the programs attached and admitting the gateway's own connections, of which this makes one
// over lo, with `mark` (0: none). Returns why the lane is of no use; empty: it is. Takes 200 ms at
// most.
std::string probe_express(unsigned mark);

}  // namespace sluice::kernel
