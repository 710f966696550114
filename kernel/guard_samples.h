// The guard's numbers for the metrics page.
#pragma once

#include <string>
#include <vector>

#include "kernel/guard_maps.h"
#include "kernel/keeper.h"

namespace sluice::kernel {

struct GuardNumbers {
  int tallies_map = -1;
  std::vector<RuleCounter> rules;
  std::vector<MapUse> maps;
  double events_waiting = 0;
  std::size_t bans = 0;
  double bans_capacity = 0;
  double bans_refused = 0;
  double bans_not_inserted = 0;
  std::uint64_t generation = 0;
  std::vector<std::pair<std::string, std::string>> attached;  // interface, entry
};

std::vector<Sample> guard_samples(const GuardNumbers& numbers);

}  // namespace sluice::kernel
