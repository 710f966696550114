#include "gateway/ai/proxy/key_ring.h"

#include <algorithm>

namespace sluice::gateway::ai {

KeyRing::KeyRing(std::vector<tls::SecretPtr> keys) {
  keys_.reserve(keys.size());
  for (tls::SecretPtr& key : keys)
    keys_.emplace_back(std::move(key));
}

bool KeyRing::same(const std::vector<tls::SecretPtr>& keys) const {
  return std::ranges::equal(keys_, keys, [](const Key& own, const tls::SecretPtr& other) {
    return *own.secret == *other;
  });
}

void KeyRing::take_over(const KeyRing& old) {
  for (Key& key : keys_) {
    for (const Key& known : old.keys_) {
      if (*known.secret == *key.secret)
        key.rests_until.store(known.rests_until.load(std::memory_order_relaxed));
    }
  }
}

bool KeyRing::ready(Clock::time_point now) const {
  return keys_.empty() || std::ranges::any_of(keys_, [&](const Key& key) {
           return key.rests_until.load(std::memory_order_relaxed) <= now.time_since_epoch().count();
         });
}

std::size_t KeyRing::resting(Clock::time_point now) const {
  return static_cast<std::size_t>(std::ranges::count_if(keys_, [&](const Key& key) {
    return key.rests_until.load(std::memory_order_relaxed) > now.time_since_epoch().count();
  }));
}

std::size_t KeyRing::choose(Clock::time_point now) {
  const std::size_t first = turn_.fetch_add(1, std::memory_order_relaxed);
  std::size_t soonest = first % keys_.size();
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const std::size_t index = (first + i) % keys_.size();
    const auto until = keys_[index].rests_until.load(std::memory_order_relaxed);
    if (until <= now.time_since_epoch().count()) return index;
    if (until < keys_[soonest].rests_until.load(std::memory_order_relaxed)) soonest = index;
  }
  return soonest;
}

void KeyRing::rest(std::size_t index, Clock::time_point until) {
  keys_[index].rests_until.store(until.time_since_epoch().count(), std::memory_order_relaxed);
}

}  // namespace sluice::gateway::ai
