#include "policy/ai_callers.h"

#include <algorithm>

#include "policy/cgroup.h"

namespace sluice::policy {
namespace {

// Not where it catches every process.
bool all_inside(const Intercept& entry, std::span<const std::string> cgroups) {
  return !entry.cgroups.empty() && std::ranges::all_of(entry.cgroups, [&](const auto& path) {
    return std::ranges::any_of(cgroups,
                               [&](const auto& cgroup) { return in_cgroup(path, cgroup); });
  });
}

}  // namespace

CgroupListeners listeners_of(std::span<const std::string> cgroups,
                             std::span<const Intercept> output) {
  CgroupListeners out;
  const auto theirs = [&](const Intercept& entry) { return all_inside(entry, cgroups); };
  for (const Intercept& entry : output) {
    if (!theirs(entry) || std::ranges::find(out.names, entry.listener) != out.names.end()) continue;
    const auto others = std::ranges::find_if(output, [&](const Intercept& other) {
      return other.listener == entry.listener && !theirs(other);
    });
    if (others == output.end()) {
      out.names.push_back(entry.listener);
    } else {
      out.others = &*others;
    }
  }
  return out;
}

}  // namespace sluice::policy
