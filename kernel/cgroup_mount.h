// Where the hierarchy of control groups (cgroup2) is mounted.
#pragma once

#include <string>

namespace sluice::kernel {

// As this process sees it; /sys/fs/cgroup where there is none.
std::string cgroup2_mount();

}  // namespace sluice::kernel
