// Which callers of the AI gateway are known by the cgroup of their process. Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "policy/config/intercept.h"

namespace sluice::policy {

// A socket does not say whose process has opened its other end. The kernel's rules do, which lead
// cgroups apart: who comes by such a listener, caught on its way out, is of that cgroup.
struct CgroupListeners {
  std::vector<std::string> names;     // of listeners that get these cgroups' connections alone
  const Intercept* others = nullptr;  // an entry that leads others to one of theirs as well
};

// `output` outlives what is returned.
CgroupListeners listeners_of(std::span<const std::string> cgroups,
                             std::span<const Intercept> output);

}  // namespace sluice::policy
