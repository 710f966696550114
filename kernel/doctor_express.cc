// Whether the express lane that a policy asks for has a place to hang.
#include "kernel/cgroup_mount.h"
#include "kernel/doctor_read.h"
#include "kernel/express.h"
#include "kernel/message.h"

namespace sluice::kernel {
std::vector<Finding> examine_express(const DoctorOptions& options) {
  using Level = Finding::Level;
  constexpr const char* kCheck = "express";
  if (!asks_for_express(options.plan))
    return {{kCheck, Level::good, "the policy asks for no express lane", ""}};
  const std::string mount = cgroup2_root();
  if (mount.empty())
    return {{kCheck, Level::problem,
             "no mount of the root of cgroup2 is seen: the express lane hangs there",
             "mount -t cgroup2 none /sys/fs/cgroup; in a container, mount the host's into it, at "
             "whatever place"}};
  return {{kCheck, Level::good,
           message("the lane hangs at the root of {}; whether this kernel is good for it is tried "
                   "when a policy is put in force (`sluice status` tells)",
                   mount),
           ""}};
}

}  // namespace sluice::kernel
