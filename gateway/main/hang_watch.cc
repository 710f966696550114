#include "gateway/main/hang_watch.h"

namespace sluice::control {

bool HangWatch::hangs(bool heard, Clock::time_point now) {
  const bool gap = !last_ || now - *last_ > kGap;
  last_ = now;
  if (heard || gap) {
    silent_since_.reset();
    return false;
  }
  if (!silent_since_) silent_since_ = now;
  if (now - *silent_since_ < kLimit) return false;
  silent_since_.reset();
  return true;
}

}  // namespace sluice::control
