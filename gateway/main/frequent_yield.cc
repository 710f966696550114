#include "gateway/main/frequent_yield.h"

#include <cerrno>
#include <ctime>
#include <optional>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

namespace sluice::control {
namespace {

constexpr long kEvery = 250'000;  // nanoseconds

extern "C" void yield(int) {
  const int before = errno;
  ::sched_yield();
  errno = before;
}

void install_handler() {
  struct sigaction action {};
  action.sa_handler = yield;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGRTMIN, &action, nullptr);
}

std::optional<timer_t> start_timer() {
  static const bool installed = (install_handler(), true);
  (void)installed;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN;
  event._sigev_un._tid = ::gettid();  // no name for it before glibc 2.38
  timer_t timer{};
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return std::nullopt;
  const itimerspec often{.it_interval = {.tv_sec = 0, .tv_nsec = kEvery},
                         .it_value = {.tv_sec = 0, .tv_nsec = kEvery}};
  ::timer_settime(timer, 0, &often, nullptr);
  return timer;
}

struct OfThread {
  int depth = 0;
  std::optional<timer_t> timer;
};
thread_local OfThread of_thread;

}  // namespace

FrequentYield::FrequentYield() {
  if (of_thread.depth++ == 0) of_thread.timer = start_timer();
}

FrequentYield::~FrequentYield() {
  if (--of_thread.depth != 0 || !of_thread.timer) return;
  ::timer_delete(*of_thread.timer);
  of_thread.timer.reset();
}

}  // namespace sluice::control
