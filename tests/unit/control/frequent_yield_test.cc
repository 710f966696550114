// The timer by which a computing thread lets others run: its signal, while there is one alone.
#include "gateway/main/frequent_yield.h"

#include <chrono>
#include <csignal>
#include <ctime>
#include <gtest/gtest.h>

namespace sluice::control {
namespace {

// With the signal blocked it stays pending, so that it can be seen.
class FrequentYieldTest : public ::testing::Test {
 protected:
  FrequentYieldTest() {
    ::sigemptyset(&signal_);
    ::sigaddset(&signal_, SIGRTMIN);
    ::pthread_sigmask(SIG_BLOCK, &signal_, nullptr);
  }
  ~FrequentYieldTest() override {
    take();
    ::pthread_sigmask(SIG_UNBLOCK, &signal_, nullptr);
  }

  bool comes_within(std::chrono::milliseconds patience) {
    const timespec most{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(patience).count()};
    return ::sigtimedwait(&signal_, nullptr, &most) == SIGRTMIN;
  }
  void take() {
    while (comes_within(std::chrono::milliseconds(0))) {
    }
  }

 private:
  sigset_t signal_{};
};

TEST_F(FrequentYieldTest, TheSignalComesAgainAndAgain) {
  const FrequentYield yield;
  EXPECT_TRUE(comes_within(std::chrono::milliseconds(900)));
  EXPECT_TRUE(comes_within(std::chrono::milliseconds(900)));
}

TEST_F(FrequentYieldTest, OneInsideAnotherEndsNothing) {
  const FrequentYield outer;
  { const FrequentYield inner; }
  take();
  EXPECT_TRUE(comes_within(std::chrono::milliseconds(900)));
}

TEST_F(FrequentYieldTest, NothingComesAfterwards) {
  { const FrequentYield yield; }
  take();
  EXPECT_FALSE(comes_within(std::chrono::milliseconds(20)));
}

TEST_F(FrequentYieldTest, TheHandlerEndsNoProcess) {
  const FrequentYield yield;
  ::raise(SIGRTMIN);
  sigset_t signal{};
  ::sigemptyset(&signal);
  ::sigaddset(&signal, SIGRTMIN);
  ::pthread_sigmask(SIG_UNBLOCK, &signal, nullptr);  // it is handled now
  ::pthread_sigmask(SIG_BLOCK, &signal, nullptr);
}

}  // namespace
}  // namespace sluice::control
