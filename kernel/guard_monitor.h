// What the guard's monitor has counted.
#pragma once

#include <vector>

#include "kernel/keeper.h"

namespace sluice::kernel {

// `table`: one of the monitor's, or -1.
std::vector<Seen> read_seen(int table);

}  // namespace sluice::kernel
