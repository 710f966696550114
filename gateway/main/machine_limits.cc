#include "gateway/main/machine_limits.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <sstream>
#include <sys/resource.h>
#include <thread>
#include <vector>

namespace sluice::control {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<double> quota_v2(const fs::path& group) {
  std::istringstream text(first_line(group / "cpu.max"));  // "150000 100000" or "max 100000"
  double quota = 0;
  double period = 0;
  if (!(text >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

std::optional<double> quota_v1(const fs::path& group) {
  std::istringstream quota_text(first_line(group / "cpu.cfs_quota_us"));  // -1: none
  std::istringstream period_text(first_line(group / "cpu.cfs_period_us"));
  double quota = 0;
  double period = 0;
  if (!(quota_text >> quota) || !(period_text >> period) || quota <= 0 || period <= 0)
    return std::nullopt;
  return quota / period;
}

// The smallest quota from the group up to the hierarchy's root. Inside a container the group's own
// path may not exist below the mount: then the mount's root is the container's group.
template <typename Quota>
void lower(std::optional<double>& lowest, const fs::path& mount, const std::string& group,
           Quota quota) {
  fs::path at = fs::path(group).relative_path();
  for (;;) {
    if (const auto found = quota(at.empty() ? mount : mount / at))
      lowest = std::min(lowest.value_or(*found), *found);
    if (at.empty()) return;
    at = at.parent_path();
  }
}

bool has_controller(const std::string& controllers, std::string_view wanted) {
  std::istringstream text(controllers);
  std::string controller;
  while (std::getline(text, controller, ',')) {
    if (controller == wanted) return true;
  }
  return false;
}

std::uint32_t usable_cores() {
  // More CPUs than fit a cpu_set_t make sched_getaffinity fail: then all of them are counted.
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (::sched_getaffinity(0, sizeof cpus, &cpus) == 0)
    return static_cast<std::uint32_t>(CPU_COUNT(&cpus));
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& root) {
  const fs::path top(root);
  const fs::path mounts = top / "sys/fs/cgroup";
  std::optional<double> lowest;
  std::ifstream groups(top / "proc/self/cgroup");  // "0::/a/b" or "1:cpu,cpuacct:/a/b"
  std::string line;
  while (std::getline(groups, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      lower(lowest, mounts, group, quota_v2);
      lower(lowest, mounts / "unified", group, quota_v2);
    } else if (has_controller(controllers, "cpu")) {
      lower(lowest, mounts / controllers, group, quota_v1);
      if (controllers != "cpu") lower(lowest, mounts / "cpu", group, quota_v1);
    }
  }
  return lowest;
}

std::uint32_t worker_count(std::uint32_t configured) {
  if (configured != 0) return std::min(configured, kMaxWorkers);
  double cores = usable_cores();
  if (const auto quota = cgroup_cpu_quota()) cores = std::min(cores, std::ceil(*quota));
  return std::clamp(static_cast<std::uint32_t>(cores), 1U, kMaxWorkers);
}

DescriptorLimit raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  DescriptorLimit out{.found = limit.rlim_cur, .allowed = limit.rlim_cur};
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) out.allowed = limit.rlim_cur;
  return out;
}

}  // namespace sluice::control
