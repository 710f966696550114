// While a BPF program is loaded: the verifier gives up with EAGAIN where a signal waits, and libbpf
// after a few tries. A timer's signals every 250 us (gateway/main/frequent_yield) let none through.
#pragma once

#include <csignal>

namespace sluice::kernel {

// Holds this thread's signals back for as long as it lives.
class Uninterrupted {
 public:
  Uninterrupted() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~Uninterrupted() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Uninterrupted(const Uninterrupted&) = delete;
  Uninterrupted& operator=(const Uninterrupted&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace sluice::kernel
