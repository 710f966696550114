#include "kernel/bypass_watch.h"

namespace sluice::kernel {

void BypassWatch::look(const std::vector<Steering::Arrivals>& arrivals, bool served,
                       Clock::time_point now) {
  std::map<std::string, Listener> seen;
  for (const auto& [name, arrived, looked_up] : arrivals) {
    const auto known = listeners_.find(name);
    Listener next =
        known == listeners_.end() ? Listener{arrived, looked_up, {}, false} : known->second;
    // Counters that went back are those of another group: begin anew.
    if (!served || looked_up != next.looked_up || arrived < next.arrived) {
      next = {arrived, looked_up, {}, next.bypassed && !served};
    } else if (arrived > next.arrived) {
      if (next.since == Clock::time_point{}) next.since = now;
      next.bypassed =
          next.bypassed || (arrived - next.arrived >= kFew && now - next.since >= kSoon);
    }
    seen.emplace(name, next);
  }
  listeners_ = std::move(seen);
}

std::vector<std::string> BypassWatch::bypassed() const {
  std::vector<std::string> out;
  for (const auto& [name, listener] : listeners_) {
    if (listener.bypassed) out.push_back(name);
  }
  return out;
}

}  // namespace sluice::kernel
