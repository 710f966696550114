// A plan on trial: the guard goes back to the one before by itself.
#pragma once

#include <chrono>
#include <optional>

#include "kernel/keeper.h"

namespace sluice::kernel {

// After a commit: from `when` on the guard's rules are those before it again, even if nobody lives
// by then; nullopt: no more. The next prepare() ends it. Rules and protect alone: steering and
// interception belong to a keeper that lives, and so does where the guard hangs.
void revert_guard_at(Keeper& keeper, std::optional<std::chrono::steady_clock::time_point> when);

}  // namespace sluice::kernel
