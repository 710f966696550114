// Rules on trial: the program itself goes back to those before, with nobody alive.
#include <chrono>
#include <gtest/gtest.h>
#include <thread>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

const Frame kTelnet = tcp("198.51.100.8", "203.0.113.1", 23);
const Frame kWeb = tcp("198.51.100.8", "203.0.113.1", 80);

void old_then_new(RunningGuard& running) {
  running.apply({drop("telnet", to_ports({{23, 23}}))});
  running.apply({drop("web", to_ports({{80, 80}}))});
  EXPECT_EQ(running.verdict(kTelnet), kPass);
  EXPECT_EQ(running.verdict(kWeb), kDrop);
}

void expect_old(const RunningGuard& running) {
  EXPECT_EQ(running.verdict(kTelnet), kDrop);
  EXPECT_EQ(running.verdict(kWeb), kPass);
}

TEST(GuardTrial, GoesBackByItself) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running);
    running.guard->revert_at(Clock::now() + 200ms);
    ASSERT_TRUE(running.guard->tick().has_value());  // must not clear what may come back
    ASSERT_TRUE(running.guard->tick().has_value());
    const auto hang = Clock::now() + 20s;
    while (running.verdict(kWeb) == kDrop && Clock::now() < hang)
      std::this_thread::sleep_for(5ms);
    expect_old(running);
  });
}

TEST(GuardTrial, AConfirmationKeepsTheNewRules) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running);
    running.guard->revert_at(Clock::now() + 1h);
    EXPECT_EQ(running.verdict(kWeb), kDrop);
    running.guard->revert_at(std::nullopt);
    ASSERT_TRUE(running.guard->tick().has_value());
    EXPECT_EQ(running.verdict(kWeb), kDrop);
  });
}

TEST(GuardTrial, TheNextKeeperFindsAndReplacesWhatCameBack) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running);
    running.guard->revert_at(Clock::now() - 1s);
    expect_old(running);
    running.reopen();
    expect_old(running);
    running.apply({drop("dns", to_ports({{53, 53}}))});
    EXPECT_EQ(running.verdict(kTelnet), kPass);
    EXPECT_EQ(running.verdict(kWeb), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "203.0.113.1", 53)), kDrop);
  });
}

// A plan that is committed meanwhile is not on trial.
TEST(GuardTrial, TheNextCommitEndsIt) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running);
    running.guard->revert_at(Clock::now() + 100ms);
    running.apply({drop("web", to_ports({{80, 80}})), drop("dns", to_ports({{53, 53}}))});
    std::this_thread::sleep_for(150ms);
    EXPECT_EQ(running.verdict(kWeb), kDrop);
    EXPECT_EQ(running.verdict(kTelnet), kPass);
  });
}

}  // namespace
}  // namespace sluice::kernel
