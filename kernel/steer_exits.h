// What becomes of new connections of `steering: tc` while nobody serves: the lease that the program
// at TC compares with the clock, and each entry's on_exit. Half of the map belongs to each slot.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/steer_table.h"

namespace sluice::kernel {

class SteerExits {
 public:
  explicit SteerExits(int map) : map_(map) {}

  // Of a slot that is not in force, without leases.
  void fill(std::uint32_t slot, const std::vector<SteerTable::Exit>& exits) const;
  // Each lease from now on.
  void renew(std::uint32_t slot, const std::vector<SteerTable::Exit>& exits) const;

 private:
  void write(std::uint32_t slot, const std::vector<SteerTable::Exit>& exits, bool held) const;
  int map_;
};

}  // namespace sluice::kernel
