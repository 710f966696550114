// Whether connections that intercept.forward claims reach it: counts of where they come in beside
// counts of what asks for their listener. Where a dataplane of eBPF sends packets past netfilter,
// the first grow and the second never move, and a policy that looks right catches nothing. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernel/steering.h"

namespace sluice::kernel {

class BypassWatch {
 public:
  using Clock = std::chrono::steady_clock;
  // New connections in a row, over at least this time, of which none is looked up.
  static constexpr std::uint64_t kFew = 3;
  static constexpr std::chrono::seconds kSoon{2};

  // `served`: interception is meant to catch; while it is not, nothing is concluded.
  void look(const std::vector<Steering::Arrivals>& arrivals, bool served, Clock::time_point now);
  // Listeners that none of their connections reached, sorted.
  std::vector<std::string> bypassed() const;

 private:
  struct Listener {
    std::uint64_t arrived = 0;    // when it was looked up last, or the watch began
    std::uint64_t looked_up = 0;  // then
    Clock::time_point since{};    // of the first arrival after that; the epoch: there is none
    bool bypassed = false;
  };
  std::map<std::string, Listener> listeners_;
};

}  // namespace sluice::kernel
