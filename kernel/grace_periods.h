// Updates of maps of maps, each of which returns after a grace period: about 10 ms, and on a busy
// machine 100.
#pragma once

#include <functional>
#include <span>

namespace sluice::kernel {

// Runs all, which then wait for the same grace period; each in a thread of its own but the first.
// Returns when all have.
void wait_together(std::span<const std::function<void()>> updates);

}  // namespace sluice::kernel
