// A plan on trial: the guard goes back to the one before by itself.
#pragma once

#include <chrono>
#include <optional>

#include "kernel/keeper.h"

namespace sluice::kernel {

// Of a plan that was committed with GuardPlan::revert_at, while its trial lasts: moves the time
// (now: at once); nullopt: the plan stays. Until then nothing else can be prepared. Rules and
// protect alone go back: steering and interception belong to a keeper that lives, and so does where
// the guard hangs. A keeper that finds a trial of one that died ends it at once: the rules before.
// Before commit(): of the plan that is prepared. False: too late, the rules before are in force.
bool revert_guard_at(Keeper& keeper, std::optional<std::chrono::steady_clock::time_point> when);

}  // namespace sluice::kernel
