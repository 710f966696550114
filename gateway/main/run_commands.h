// The admin commands that a process answers alike with and without a keeper: about the policy, and
// drain.
#pragma once

#include <functional>

#include "gateway/main/admin_commands.h"
#include "gateway/main/drain_waiters.h"
#include "gateway/main/policy_apply.h"
#include "gateway/main/policy_plan.h"
#include "gateway/main/policy_reloader.h"

namespace sluice::control {

// All of it must outlive the commands.
struct RunControl {
  PolicyReloader& reloader;
  PolicyApply& policy_apply;
  std::function<PlanContext()> plan_context;
  DrainWaiters& drain_waiters;
  std::function<void()> reopen_logs;
  std::function<void()> stop;
};

void add_run_commands(AdminCommands& commands, const RunControl& control);

}  // namespace sluice::control
