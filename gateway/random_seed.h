#pragma once

#include <cstdint>
#include <random>

namespace sluice::gateway {

// For a generator whose numbers need not be secret; never 0, which some generators cannot leave.
inline std::uint64_t random_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32 | device()) | 1;
}

}  // namespace sluice::gateway
