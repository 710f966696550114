// What the programs of steering count, by group: the sum over processors.
#pragma once

#include <cstdint>

#include "kernel/abi_steer.h"

namespace sluice::kernel {

// `map`: steer_counters. Keeper's thread.
class SteerCounters {
 public:
  explicit SteerCounters(int map) : map_(map) {}

  sluice_steer_counters of(std::uint32_t group) const;  // zero where the kernel has none
  void clear(std::uint32_t group);

 private:
  int map_;
};

}  // namespace sluice::kernel
