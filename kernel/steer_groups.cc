#include "kernel/steer_groups.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <linux/bpf.h>

namespace sluice::kernel {
namespace {

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text)
    hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

SteerGroups SteerGroups::read(int map) {
  SteerGroups groups;
  for (__u32 index = 0; index < SLUICE_STEER_MAX_GROUPS; index++) {
    bpf_map_lookup_elem(map, &index, &groups.groups_[index]);
  }
  return groups;
}

void SteerGroups::write(int map) const {
  for (__u32 index = 0; index < SLUICE_STEER_MAX_GROUPS; index++) {
    bpf_map_update_elem(map, &index, &groups_[index], BPF_ANY);
  }
}

std::optional<std::uint16_t> SteerGroups::find(const std::string& listener, WayIn way) const {
  const std::uint64_t hash = fnv1a(listener);
  for (std::size_t index = 0; index < groups_.size(); index++) {
    const auto& group = groups_[index];
    if (group.used && group.listener == hash && group.way == static_cast<__u8>(way)) {
      return static_cast<std::uint16_t>(index);
    }
  }
  return std::nullopt;
}

std::optional<std::uint16_t> SteerGroups::assign(const std::string& listener, WayIn way) {
  if (auto known = find(listener, way)) return known;
  const auto free =
      std::find_if(groups_.begin(), groups_.end(), [](const auto& group) { return !group.used; });
  if (free == groups_.end()) return std::nullopt;
  free->listener = fnv1a(listener);
  free->way = static_cast<__u8>(way);
  free->used = 1;
  return static_cast<std::uint16_t>(free - groups_.begin());
}

std::vector<std::uint16_t> SteerGroups::keep_only(const std::vector<std::uint16_t>& kept) {
  std::vector<std::uint16_t> given_up;
  for (std::size_t index = 0; index < groups_.size(); index++) {
    const auto number = static_cast<std::uint16_t>(index);
    if (!groups_[index].used || std::find(kept.begin(), kept.end(), number) != kept.end()) continue;
    groups_[index] = {};
    given_up.push_back(number);
  }
  return given_up;
}

std::size_t SteerGroups::used() const {
  return static_cast<std::size_t>(std::count_if(groups_.begin(), groups_.end(),
                                                [](const auto& group) { return group.used != 0; }));
}

}  // namespace sluice::kernel
