// Steering as metrics.
#pragma once

#include <cstddef>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"
#include "kernel/steer_counters.h"
#include "kernel/steer_groups.h"

namespace sluice::kernel {

// Of the plan in force; the references are the caller's.
struct SteerFigures {
  const Plan& plan;
  const SteerGroups& groups;
  const SteerCounters& counters;
  std::size_t sources = 0, destinations = 0, segments = 0;  // entries of the maps
  std::size_t tc_interfaces = 0;
  std::size_t cookie_interfaces = 0;
};

std::vector<Sample> steer_samples(const SteerFigures& figures);

}  // namespace sluice::kernel
