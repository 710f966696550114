// Routes that can never be taken, because others always are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

struct Shadow {
  std::uint32_t route = 0;  // the one that never matches
  std::uint32_t by = 0;     // the one that takes its requests
  bool same = false;        // both ask for exactly the same
};

// Finds what can be told without knowing what regular expressions match: routes of one listener,
// host and path whose conditions imply those of a route that is tried before, and routes behind a
// regular expression that matches every path. Each shadowed route once, in the order of `routes`.
std::vector<Shadow> find_shadows(std::span<const Route> routes);

}  // namespace sluice::policy
