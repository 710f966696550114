#include "gateway/metrics_slots.h"

#include <utility>

namespace sluice::gateway {

std::uint32_t SlotDirectory::take(const Key& key) {
  if (const auto found = building_.find(key); found != building_.end()) return found->second;
  std::uint32_t slot = 0;
  if (const auto kept = shown_.find(key); kept != shown_.end()) {
    slot = kept->second;
  } else if (const auto back = retired_.find(key); back != retired_.end()) {
    slot =
        back->second.slot;  // goes on where it stopped: an older generation may still count there
    retired_.erase(back);
  } else if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else {
    slot = next_++;
  }
  building_.emplace(key, slot);
  return slot;
}

void SlotDirectory::publish() {
  for (const auto& [key, slot] : shown_) {
    if (!building_.contains(key)) retired_.emplace(key, Retired{slot, generation_});
  }
  shown_ = std::exchange(building_, {});
  ++generation_;
}

void SlotDirectory::abandon() {
  for (const auto& [key, slot] : building_) {
    if (shown_.contains(key)) continue;
    // It may be one that was retired, with writers of an older generation: treat all as retired
    // just now.
    retired_.emplace(key, Retired{slot, generation_});
  }
  building_.clear();
}

std::vector<std::uint32_t> SlotDirectory::collect(std::uint64_t oldest_alive) {
  std::vector<std::uint32_t> freed;
  for (auto it = retired_.begin(); it != retired_.end();) {
    if (it->second.last_generation < oldest_alive) {
      freed.push_back(it->second.slot);
      it = retired_.erase(it);
    } else {
      ++it;
    }
  }
  free_.insert(free_.end(), freed.begin(), freed.end());
  return freed;
}

}  // namespace sluice::gateway
