// `sluice run` with a policy that needs the kernel: holds everything that is in the kernel, keeps a
// gateway alive, reads nothing from the network.
#pragma once

#include <optional>

#include "gateway/main/first_policy.h"
#include "gateway/main/hand_over.h"
#include "gateway/main/run_options.h"

namespace sluice::control {

// Blocks until a stop. The process's exit code. `from`: the program that this one follows without a
// gap (`sluice upgrade`).
int run_keeper_process(const RunOptions& options, FirstPolicy first,
                       std::optional<HandOver> from = std::nullopt);

}  // namespace sluice::control
