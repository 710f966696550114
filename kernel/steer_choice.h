// Which of sk_lookup, tproxy and the program at TC finds the socket for each entry of a plan. Pure.
#pragma once

#include <string>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// Makes every entry's `steering` one that is not automatic. `automatic` is sk_lookup where the
// kernel has it, and follows an entry of the same listener and way that says tproxy, since both
// share sockets; and one of way forward that says tc, which is for all of that way. `no_sk_lookup`:
// why the kernel has it not; empty: it has. Errors: sk_lookup or tc asked for and not there, both
// of sk_lookup and tproxy asked for by one listener and way, tc beside another or for another way
// than forward.
Result<void> choose_steering(Plan& plan, const std::string& no_sk_lookup);

bool uses(const Plan& plan, SteerBy steering);

// The plan as nftables has to carry it out: without the entries of steering tc.
Plan without_tc(Plan plan);

}  // namespace sluice::kernel
