// Rules on trial: the program itself goes back to those before, with nobody alive.
#include <chrono>
#include <gtest/gtest.h>
#include <net/if.h>
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

GuardPlan on_trial(std::vector<GuardRule> rules, Clock::time_point until) {
  GuardPlan plan = guard_plan(std::move(rules));
  plan.revert_at = until;
  return plan;
}

void old_then_new(RunningGuard& running, Clock::time_point until) {
  running.apply({drop("telnet", to_ports({{23, 23}}))});
  EXPECT_EQ(running.verdict(kTelnet), kDrop);
  running.apply(on_trial({drop("web", to_ports({{80, 80}}))}, until));
}

void expect_new(const RunningGuard& running) {
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
    old_then_new(running, Clock::now() + 200ms);
    ASSERT_TRUE(running.guard->tick().has_value());  // must not clear what may come back
    ASSERT_TRUE(running.guard->tick().has_value());
    const auto hang = Clock::now() + 20s;
    while (running.verdict(kWeb) == kDrop && Clock::now() < hang)
      std::this_thread::sleep_for(5ms);
    expect_old(running);
    ASSERT_TRUE(running.guard->tick().has_value());
    expect_old(running);
  });
}

TEST(GuardTrial, InterfacesThatComeMeanwhileHaveTheRulesBefore) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan before = guard_plan({drop("web", to_ports({{80, 80}}))});
    before.interfaces = {"late*"};
    running.apply(before);
    GuardPlan plan = on_trial({}, Clock::now() + 1h);
    plan.interfaces = before.interfaces;
    running.apply(plan);
    shell("ip link add late0 type veth peer name far0");
    ASSERT_TRUE(running.guard->tick().has_value());
    EXPECT_EQ(running.verdict(kWeb.bytes(), if_nametoindex("late0")), kPass);
    running.guard->revert_at(Clock::now());
    EXPECT_EQ(running.verdict(kWeb.bytes(), if_nametoindex("late0")), kDrop);
  });
}

TEST(GuardTrial, AConfirmationKeepsTheNewRules) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running, Clock::now() + 1h);
    expect_new(running);
    running.guard->revert_at(std::nullopt);
    ASSERT_TRUE(running.guard->tick().has_value());
    expect_new(running);
  });
}

// The gateway may take its time between the two.
TEST(GuardTrial, ItsTimeIsSetAnewBeforeTheCommit) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("telnet", to_ports({{23, 23}}))});
    const GuardPlan late = on_trial({drop("web", to_ports({{80, 80}}))}, Clock::now() - 1s);
    ASSERT_TRUE(running.guard->prepare(late, {}, {}));
    EXPECT_TRUE(running.guard->revert_at(Clock::now() + 1h));
    ASSERT_TRUE(running.guard->commit(++running.generation));
    expect_new(running);
  });
}

TEST(GuardTrial, AConfirmationThatComesTooLateIsTold) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running, Clock::now() - 1s);
    EXPECT_FALSE(running.guard->revert_at(Clock::now() + 1h));
    EXPECT_FALSE(running.guard->revert_at(std::nullopt));
    ASSERT_TRUE(running.guard->tick().has_value());
    EXPECT_FALSE(running.guard->revert_at(std::nullopt));
    expect_old(running);
    running.apply({drop("dns", to_ports({{53, 53}}))});
    EXPECT_TRUE(running.guard->revert_at(std::nullopt)) << "nothing is on trial any more";
  });
}

TEST(GuardTrial, GoesBackAtOnceWhenTold) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running, Clock::now() + 1h);
    running.guard->revert_at(Clock::now());
    expect_old(running);
    running.apply({drop("dns", to_ports({{53, 53}}))});
    EXPECT_EQ(running.verdict(kTelnet), kPass);
    EXPECT_EQ(running.verdict(kWeb), kPass);
  });
}

// Its keeper died: a trial that nobody can confirm any more is over.
TEST(GuardTrial, TheNextKeeperGoesBack) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running, Clock::now() + 1h);
    running.reopen();
    expect_old(running);
    running.apply({drop("dns", to_ports({{53, 53}}))});
    EXPECT_EQ(running.verdict(kTelnet), kPass);
    EXPECT_EQ(running.verdict(kWeb), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "203.0.113.1", 53)), kDrop);
  });
}

TEST(GuardTrial, TheNextKeeperFindsAndReplacesWhatCameBack) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running, Clock::now() - 1s);
    expect_old(running);
    running.reopen();
    expect_old(running);
    running.apply({drop("dns", to_ports({{53, 53}}))});
    EXPECT_EQ(running.verdict(kTelnet), kPass);
    EXPECT_EQ(running.verdict(kWeb), kPass);
  });
}

// Both slots are taken: another plan would have to overwrite what comes back.
TEST(GuardTrial, RefusesOtherPlansMeanwhile) {
  in_sandbox([] {
    RunningGuard running;
    old_then_new(running, Clock::now() + 1h);
    const auto prepared = running.guard->prepare(guard_plan({drop("dns")}), {}, {});
    ASSERT_FALSE(prepared.has_value());
    EXPECT_NE(prepared.error().message.find("on trial"), std::string::npos);
    expect_new(running);
    running.guard->revert_at(Clock::now());
    expect_old(running);
  });
}

TEST(GuardTrial, CountersOfWhatComesBackGoOn) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("telnet", to_ports({{23, 23}})), drop("web", to_ports({{80, 80}}))});
    running.verdict(kTelnet);
    running.verdict(kWeb);
    running.apply(on_trial({drop("web", to_ports({{80, 80}})), count("all")}, Clock::now() + 1h));
    running.verdict(kTelnet);
    running.verdict(kWeb);
    EXPECT_EQ(running.packets("all"), 2U);
    running.guard->revert_at(Clock::now());
    running.verdict(kTelnet);
    EXPECT_EQ(running.packets("telnet"), 2U);
    EXPECT_EQ(running.packets("web"), 2U);
    EXPECT_EQ(running.guard->rule_counters().size(), 2U);
  });
}

}  // namespace
}  // namespace sluice::kernel
