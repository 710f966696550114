#include "kernel/cgroup_mount.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace sluice::kernel {
namespace {

std::vector<std::string> cgroup2_mounts() {
  std::vector<std::string> points;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    fields >> id >> parent >> device >> root >> point;
    points.push_back(std::move(point));
  }
  return points;
}

// Every group has that file but the root (cgroup-v2.rst, "Core Interface Files").
bool is_root(const std::string& point) {
  std::error_code error;
  return std::filesystem::exists(point + "/cgroup.controllers", error) &&
         !std::filesystem::exists(point + "/cgroup.events", error);
}

}  // namespace

std::string cgroup2_mount() {
  const auto points = cgroup2_mounts();
  return points.empty() ? "/sys/fs/cgroup" : points.front();
}

std::string cgroup2_root() {
  for (const std::string& point : cgroup2_mounts())
    if (is_root(point)) return point;
  return "";
}

}  // namespace sluice::kernel
