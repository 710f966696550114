// What this machine, container and shell allow: cores and descriptors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice::control {

inline constexpr std::uint32_t kMaxWorkers = 64;

// The CPU quota of this process's cgroup and those above it, in cores (1.5 = 150 ms of 100 ms);
// none: no quota. Knows cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us). `root` replaces "/" in
// tests.
std::optional<double> cgroup_cpu_quota(const std::string& root = "/");

// `configured`, or for 0 (auto) min(cores that this process may use, its cgroup's quota rounded
// up); 1 to 64.
std::uint32_t worker_count(std::uint32_t configured);

struct DescriptorLimit {
  std::uint64_t found = 0;    // the soft limit before
  std::uint64_t allowed = 0;  // the soft limit now: the hard one
};
// Raises the soft limit of open descriptors to the hard one, for this process and its children.
DescriptorLimit raise_descriptor_limit();

}  // namespace sluice::control
