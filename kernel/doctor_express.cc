// Whether the express lane that a policy asks for has a place to hang.
#include <algorithm>
#include <sys/vfs.h>

#include "kernel/cgroup_mount.h"
#include "kernel/doctor_read.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

constexpr long kCgroup2Magic = 0x63677270;  // linux/magic.h

bool asks(const Plan& plan) {
  return plan.express_upstreams ||
         std::ranges::any_of(plan.listeners, [](const Listener& one) { return one.express; });
}

}  // namespace

std::vector<Finding> examine_express(const DoctorOptions& options) {
  using Level = Finding::Level;
  constexpr const char* kCheck = "express";
  if (!asks(options.plan))
    return {{kCheck, Level::good, "the policy asks for no express lane", ""}};
  const std::string mount = cgroup2_mount();
  struct statfs about {};
  if (::statfs(mount.c_str(), &about) != 0 || about.f_type != kCgroup2Magic)
    return {{kCheck, Level::problem,
             message("no cgroup2 is mounted at {}: the express lane hangs at its root", mount),
             "mount -t cgroup2 none /sys/fs/cgroup; in a container, mount the host's"}};
  return {{kCheck, Level::good,
           message("the lane hangs at the root of {}; whether this kernel is good for it is tried "
                   "when a policy is put in force (`sluice status` tells)",
                   mount),
           ""}};
}

}  // namespace sluice::kernel
