// Paths of cgroups, below the cgroup2 root.
#pragma once

#include <string_view>

namespace sluice::policy {

// It is that cgroup, or below it.
constexpr bool in_cgroup(std::string_view path, std::string_view cgroup) {
  return path.starts_with(cgroup) && (path.size() == cgroup.size() || path[cgroup.size()] == '/');
}

}  // namespace sluice::policy
