// Fills one slot of steer.bpf.c's maps-in-maps with a compiled table.
#pragma once

#include "kernel/keeper.h"
#include "kernel/steer_table.h"

namespace sluice::kernel {

struct SteerMaps {
  int sources = -1;  // of maps
  int destinations = -1;
  int segments = -1;
  int interfaces = -1;  // keyed by slot
};

// Replaces the three inner maps of `slot`, and its interfaces, and waits for a grace period, so that
// no program still reads the old ones.
Result<void> fill_steer_slot(const SteerMaps& maps, std::uint32_t slot, const SteerTable& table);

}  // namespace sluice::kernel
