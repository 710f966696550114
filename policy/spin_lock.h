// Locks of a few instructions' length, in tables that workers share.
#pragma once

#include <atomic>
#include <thread>

namespace sluice::policy {

class SpinLock {
 public:
  void lock() {
    while (locked_.exchange(true, std::memory_order_acquire))
      std::this_thread::yield();
  }
  void unlock() { locked_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> locked_{false};
};

// Both, in one order for everybody; they may be the same one.
class LockPair {
 public:
  LockPair(SpinLock& a, SpinLock& b) : low_(&a < &b ? a : b), high_(&a < &b ? b : a) {
    low_.lock();
    if (&high_ != &low_) high_.lock();
  }
  ~LockPair() {
    if (&high_ != &low_) high_.unlock();
    low_.unlock();
  }
  LockPair(const LockPair&) = delete;
  LockPair& operator=(const LockPair&) = delete;

 private:
  SpinLock& low_;
  SpinLock& high_;
};

}  // namespace sluice::policy
