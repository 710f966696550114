#include "kernel/grace_periods.h"

#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace sluice::kernel {

void wait_together(std::span<const std::function<void()>> updates) {
  std::vector<std::jthread> waiting;
  for (std::size_t i = 1; i < updates.size(); ++i) {
    try {
      waiting.emplace_back([&update = updates[i]] { update(); });
    } catch (const std::system_error&) {  // no thread to be had: one after the other, then
      updates[i]();
    }
  }
  if (!updates.empty()) updates.front()();
}

}  // namespace sluice::kernel
