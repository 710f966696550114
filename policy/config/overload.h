// The typed form of `overload`.
#pragma once

#include <cstdint>

#include "policy/config/common.h"

namespace sluice::policy {

struct Overload {
  std::uint32_t max_connections = 0;  // of clients, over all listeners; 0: no bound of its own
  std::uint64_t max_memory = 0;       // resident bytes of the gateway; 0: not looked at
  std::uint32_t shed_percent = 95;    // of either, and of a listener's max_connections
  Duration retry_after = 1s;
};

}  // namespace sluice::policy
