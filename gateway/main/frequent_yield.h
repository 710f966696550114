// A control thread that computes for long and lets the workers run all the same.
#pragma once

namespace sluice::control {

// While one lives, the thread that made it offers its processor to others every 250 µs (a timer's
// signal, whose handler calls sched_yield(2)). Without, where the kernel preempts lazily, a worker
// that has a request to answer waits for the compiling thread's tick: up to 4 ms at HZ=250, and
// twice that beside a second one. A lower priority would do the same, but could not be raised again
// by a process without privileges, and on a busy node a reload would then take a minute.
//
// Made and destroyed by one thread; one inside another is free. Without timers (ENOSYS, EAGAIN) it
// does nothing. Signal: SIGRTMIN.
class FrequentYield {
 public:
  FrequentYield();
  ~FrequentYield();
  FrequentYield(const FrequentYield&) = delete;
  FrequentYield& operator=(const FrequentYield&) = delete;
};

}  // namespace sluice::control
