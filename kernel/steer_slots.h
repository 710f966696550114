// Fills one slot of steer.bpf.c's maps-in-maps with a compiled table.
#pragma once

#include "kernel/keeper.h"
#include "kernel/steer_table.h"

namespace sluice::kernel {

struct SteerOuterMaps {
  int sources = -1;
  int destinations = -1;
  int segments = -1;
};

// Replaces the three inner maps of `slot`; each replacement waits for a grace period, so that no
// program still reads the old one.
Result<void> fill_steer_slot(const SteerOuterMaps& maps, std::uint32_t slot,
                             const SteerTable& table);

}  // namespace sluice::kernel
