#include "kernel/cgroup_mount.h"

#include <fstream>
#include <sstream>

namespace sluice::kernel {

std::string cgroup2_mount() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const auto separator = line.find(" - cgroup2 ");
    if (separator == std::string::npos) continue;
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    fields >> id >> parent >> device >> root >> point;
    return point;
  }
  return "/sys/fs/cgroup";
}

}  // namespace sluice::kernel
