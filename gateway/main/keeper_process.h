// `sluice run` with a policy that needs the kernel: holds everything that is in the kernel, keeps a
// gateway alive, reads nothing from the network.
#pragma once

#include "gateway/main/first_policy.h"
#include "gateway/main/run_options.h"

namespace sluice::control {

// Blocks until a stop. The process's exit code.
int run_keeper_process(const RunOptions& options, FirstPolicy first);

}  // namespace sluice::control
