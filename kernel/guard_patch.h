// A set that changed in few places: the tables that were compiled before are mended there, instead
// of being compiled again from every prefix. Pure.
#pragma once

#include "kernel/guard_tables.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// Makes of `tables`, compiled from `before`, those of `after`. False: the plans differ in more than
// members of sets (of IPv4, those longer than /16), or in too many of them; `tables` is of no use
// then. The counters, `protect` and host ports that it was compiled with must be the same.
bool patch_guard(const GuardPlan& before, const GuardPlan& after, GuardTables& tables);

}  // namespace sluice::kernel
