// For how long open connections may finish after a stop.
#pragma once

#include <algorithm>
#include <chrono>

#include "policy/config.h"

namespace sluice::control {

// The longest of the listeners' drain timeouts.
inline std::chrono::milliseconds drain_deadline(const policy::Config& config) {
  policy::Duration longest{0};
  for (const auto& listener : config.listeners)
    longest = std::max(longest, listener.timeouts.drain);
  return std::chrono::duration_cast<std::chrono::milliseconds>(longest);
}

}  // namespace sluice::control
