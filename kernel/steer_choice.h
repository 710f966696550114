// Which of sk_lookup and tproxy finds the socket for each entry of a plan. Pure.
#pragma once

#include <string>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// Makes every entry's `steering` sk_lookup or tproxy. `automatic` is sk_lookup where the kernel has
// it, and follows an entry of the same listener and way that says tproxy, since both share sockets.
// `no_sk_lookup`: why the kernel has it not; empty: it has. Errors: sk_lookup asked for and not
// there, or both asked for by one listener and way.
Result<void> choose_steering(Plan& plan, const std::string& no_sk_lookup);

bool uses(const Plan& plan, SteerBy steering);

}  // namespace sluice::kernel
