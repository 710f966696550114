// What outlives a plan and a process: counters, bans, rules in force; and a switch that no packet
// sees half of.
#include <atomic>
#include <bpf/bpf.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <set>
#include <thread>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

TEST(GuardAdoption, CountersSurviveAReloadAndGoWithTheirRule) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("a", from({"198.51.100.1"})), drop("b", from({"198.51.100.2"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.2", "10.0.0.1")), kDrop);
    running.apply({drop("c", from({"198.51.100.3"})),
                   drop("b", from({"198.51.100.2", "198.51.100.4"})),
                   drop("a", from({"198.51.100.1"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.4", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.packets("a"), 1U);
    EXPECT_EQ(running.packets("b"), 2U);
    EXPECT_EQ(running.counter("b").bytes, 2 * tcp("198.51.100.2", "10.0.0.1").bytes().size());
    EXPECT_EQ(running.counter("b").dropped, 2U);
    EXPECT_EQ(running.packets("c"), 0U);
    running.apply({drop("b")});
    running.apply({drop("a", from({"198.51.100.1"})), drop("b")});
    EXPECT_EQ(running.packets("a"), 0U);  // it had gone
    EXPECT_EQ(running.packets("b"), 2U);
  });
}

TEST(GuardAdoption, AnAbandonedPlanLeavesNoTrace) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("a", from({"198.51.100.1"}))});
    ASSERT_TRUE(running.guard->prepare(guard_plan({drop("x")}), {}, {}));
    EXPECT_EQ(running.verdict(tcp("198.51.100.2", "10.0.0.1")), kPass);
    running.guard->abandon();
    EXPECT_FALSE(running.guard->commit(9));
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kDrop);
    ASSERT_EQ(running.guard->rule_counters().size(), 1U);
    EXPECT_EQ(running.guard->rule_counters()[0].rule, "a");
    EXPECT_EQ(running.guard->generation(), 1U);
  });
}

TEST(GuardAdoption, RulesBansAndCountersOutliveTheProcess) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({count("w"), drop("a", from({"198.51.100.1"})), drop("b", to_ports({{81, 81}}))},
                  {{prefix("10.9.0.0/24"), {}, {}}});
    ASSERT_TRUE(running.guard->ban(prefix("192.0.2.0/24"), std::chrono::hours(1), "scanner"));
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kDrop);
    // Prepared and never committed: the successor must not count it among the rules.
    ASSERT_TRUE(running.guard->prepare(guard_plan({drop("never")}), {}, {}));
    running.reopen();
    EXPECT_EQ(running.guard->generation(), 1U);
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("10.9.0.1", "10.0.0.1", 81)), kPass);
    const auto counters = running.guard->rule_counters();
    ASSERT_EQ(counters.size(), 3U);
    EXPECT_EQ(counters[0].rule, "w");
    EXPECT_EQ(counters[0].action, GuardAction::count);
    EXPECT_EQ(counters[1].rule, "a");
    EXPECT_EQ(counters[1].packets, 2U);
    const auto bans = running.guard->bans();
    ASSERT_EQ(bans.size(), 1U);
    EXPECT_EQ(bans[0].source, prefix("192.0.2.0/24"));
    EXPECT_EQ(bans[0].packets, 2U);
    EXPECT_EQ(bans[0].reason, "scanner");
    EXPECT_TRUE(running.guard->unban(prefix("192.0.2.0/24")).value());
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1")), kPass);
    running.apply({drop("a", from({"198.51.100.1"}))});
    EXPECT_EQ(running.packets("a"), 2U);
  });
}

TEST(GuardAdoption, RemoveLeavesNothing) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("a")});
    EXPECT_FALSE(running.guard->remove().empty());
    EXPECT_TRUE(std::filesystem::is_empty(running.pins.path()));
    running.reopen();
    EXPECT_EQ(running.guard->generation(), 0U);
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kPass);
    running.guard.reset();
    EXPECT_FALSE(Guard::cleanup(kPinRoot).empty());
    EXPECT_FALSE(std::filesystem::exists(running.pins.path()));
  });
}

// Two plans, each of which drops a packet that is counted twice, by address and by port: a packet
// that saw parts of both plans would pass, or count only once.
TEST(GuardAdoption, NoPacketSeesHalfOfASwitch) {
  in_sandbox([] {
    RunningGuard running;
    const auto one = [] {
      return std::vector{drop("address", from({"198.51.100.1"}) & to({"10.0.0.1"}) &
                                             to_ports({{80, 80}}) & from_ports({{40000, 40000}}))};
    };
    // The same meaning with every class and table arranged differently.
    const auto two = [] {
      std::vector<GuardRule> rules;
      for (int i = 0; i < 70; ++i) {
        rules.push_back(drop("other" + std::to_string(i),
                             from({"203.0.113." + std::to_string(i)}) & to_ports({{80, 80}})));
      }
      rules.push_back(drop("address", from({"198.51.100.0/31"}) & to({"10.0.0.0/31"}) &
                                          to_ports({{79, 81}}) & from_ports({{39999, 40001}})));
      return rules;
    };
    running.apply(one());
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> judged{0};
    std::atomic<std::uint64_t> wrong{0};
    const auto hit = tcp("198.51.100.1", "10.0.0.1", 80).bytes();
    const auto miss = tcp("198.51.100.9", "10.0.0.1", 80).bytes();
    std::thread packets([&] {
      while (!stop) {
        if (running.verdict(hit) != kDrop || running.verdict(miss) != kPass) ++wrong;
        judged += 2;
      }
    });
    for (int i = 0; i < 40; ++i)
      running.apply(i % 2 == 0 ? two() : one());
    stop = true;
    packets.join();
    EXPECT_EQ(wrong, 0U);
    EXPECT_GT(judged, 1000U);
    EXPECT_EQ(running.packets("address"), judged / 2);
  });
}

}  // namespace
}  // namespace sluice::kernel
