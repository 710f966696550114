// Control groups by which connections of this node are caught.
#include "kernel/doctor_read.h"
#include "kernel/message.h"
#include "kernel/nft_table.h"

namespace sluice::kernel {

std::vector<Finding> examine_cgroups(const DoctorOptions& options) {
  using Level = Finding::Level;
  constexpr const char* kCheck = "cgroups";
  std::vector<Finding> findings;
  for (const auto& path : missing_cgroups(options.plan, find_cgroups(options.plan)))
    findings.push_back(
        {kCheck, Level::warning,
         message("there is no cgroup {}: intercept.output catches nothing of it", path),
         "start what runs in it, or correct the path (`cat /proc/PID/cgroup` says it, after "
         "`0::`); "
         "a container sees its own cgroups alone, unless it has the host's cgroup namespace"});
  if (findings.empty())
    findings.push_back({kCheck, Level::good, "each that the policy names is there", ""});
  return findings;
}

}  // namespace sluice::kernel
