// `sluice run` with a policy that only binds: one process, no keeper, no privilege.
#pragma once

#include "gateway/main/first_policy.h"
#include "gateway/main/run_options.h"

namespace sluice::control {

// Blocks until a stop. The process's exit code.
int run_plain_process(const RunOptions& options, FirstPolicy first);

}  // namespace sluice::control
