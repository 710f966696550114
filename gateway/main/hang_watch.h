// When a process that runs and says nothing has to be replaced.
#pragma once

#include <chrono>
#include <optional>

namespace sluice::control {

class HangWatch {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLimit{20};
  // A gap between two calls is this process's own: nothing is said of the other one.
  static constexpr std::chrono::seconds kGap{5};

  // To be called about once a second. True once: it has been silent for kLimit.
  bool hangs(bool heard, Clock::time_point now);

 private:
  std::optional<Clock::time_point> last_;
  std::optional<Clock::time_point> silent_since_;
};

}  // namespace sluice::control
