// The addresses of every interface of this network namespace.
#pragma once

#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// Host prefixes, sorted, each once.
Result<std::vector<Prefix>> read_own_addresses();

}  // namespace sluice::kernel
