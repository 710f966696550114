// Whom `protect` spares.
#pragma once

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// Whether all of `source` is protected now, at every port: what a ban of before drops no more. Of a
// keeper that has no plan in force by what the last one left in the kernel, as root.
bool spares(const Keeper& keeper, const Prefix& source);

}  // namespace sluice::kernel
