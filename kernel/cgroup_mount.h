// Where the hierarchy of control groups (cgroup2) is mounted.
#pragma once

#include <string>

namespace sluice::kernel {

// As this process sees it; /sys/fs/cgroup where there is none.
std::string cgroup2_mount();

// A mount of its root, below which every process of the machine is; "": none is seen. A container
// of a cgroup namespace of its own has its own groups at the usual place.
std::string cgroup2_root();

}  // namespace sluice::kernel
