#include "gateway/main/drain_waiters.h"

#include <chrono>
#include <utility>

namespace sluice::control {
namespace {

constexpr std::chrono::milliseconds kTimeToGo{200};

}  // namespace

void DrainWaiters::tell(std::function<void()> end) {
  if (waiting_.empty()) return end();
  for (const auto& respond : std::exchange(waiting_, {}))
    respond({{"ok", true}});
  timer_.expires_after(kTimeToGo);
  timer_.async_wait([end = std::move(end)](const boost::system::error_code& error) {
    if (!error) end();
  });
}

}  // namespace sluice::control
