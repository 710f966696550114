// Where an issuer's keys come from, and the newest good set of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "gateway/auth/key_set.h"

namespace sluice::gateway::auth {

// Any thread. Survives reloads that leave its place as it is.
class KeySource {
 public:
  // Raised with each new set; 0: none yet.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  // Takes a lock: ask only where generation() has changed.
  std::shared_ptr<const KeySet> current() const {
    const std::scoped_lock lock(mutex_);
    return set_;
  }
  // As they were received; "": not from a URL, or none yet.
  std::string text() const {
    const std::scoped_lock lock(mutex_);
    return text_;
  }
  void put(std::shared_ptr<const KeySet> set, std::string_view text = {}) {
    {
      const std::scoped_lock lock(mutex_);
      set_ = std::move(set);
      text_.assign(text);
    }
    generation_.fetch_add(1, std::memory_order_release);
  }

  // A token names a key that is not there: it may be a new one.
  void ask() { asked_.store(true, std::memory_order_relaxed); }
  bool take_asked() { return asked_.exchange(false, std::memory_order_relaxed); }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const KeySet> set_;
  std::string text_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<bool> asked_{false};
};

}  // namespace sluice::gateway::auth
