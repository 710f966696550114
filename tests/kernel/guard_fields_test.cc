// Direction, interfaces, audit, limits and SYN rates: the program itself judges each frame.
#include <chrono>
#include <gtest/gtest.h>
#include <net/if.h>
#include <unistd.h>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary
using std::chrono::hours;

GuardRule towards(GuardRule rule, GuardDirection direction) {
  rule.direction = direction;
  return rule;
}
GuardRule only_on(GuardRule rule, std::vector<std::string> interfaces) {
  rule.interfaces = std::move(interfaces);
  return rule;
}
GuardRule auditing(GuardRule rule) {
  rule.audit = true;
  return rule;
}
// So slow that it never refills during a test.
GuardRule limit(const std::string& name, std::uint64_t burst, GuardMatch match = {}) {
  GuardRule rule = drop(name, std::move(match));
  rule.action = GuardAction::limit;
  rule.rate = PacketRate{1, hours(1), burst};
  return rule;
}

TEST(GuardFields, DirectionsAreToldApart) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({towards(drop("in", from({"198.51.100.1"})), GuardDirection::ingress),
                   towards(drop("out", from({"198.51.100.2"})), GuardDirection::egress),
                   towards(drop("both", from({"198.51.100.3"})), GuardDirection::both)});
    const auto verdicts = [&](const std::string& source) {
      const auto frame = tcp(source, "10.0.0.1").bytes();
      return std::pair{running.verdict_at(Entry::ingress, frame),
                       running.verdict_at(Entry::egress, frame)};
    };
    EXPECT_EQ(verdicts("198.51.100.1"), (std::pair{kDrop, kPass}));
    EXPECT_EQ(verdicts("198.51.100.2"), (std::pair{kPass, kDrop}));
    EXPECT_EQ(verdicts("198.51.100.3"), (std::pair{kDrop, kDrop}));
    EXPECT_EQ(running.packets("both"), 2U);
  });
}

TEST(GuardFields, ProtectLooksAtThePeerInBothDirections) {
  in_sandbox([] {
    shell(
        "ip link add own0 type veth peer name own1; ip addr add 203.0.113.5/24 dev own0; "
        "ip link set own0 up; ip link set own1 up");
    RunningGuard running;
    running.apply({towards(drop("all"), GuardDirection::both)},
                  {{prefix("10.9.0.0/24"), {}, {}}, {prefix("192.0.2.0/24"), {{22, 22}}, {}}},
                  {6443});
    const auto out = [&](const std::string& source, const std::string& to, std::uint16_t own_port) {
      Frame frame = tcp(source, to, 40000);
      frame.from_port = own_port;
      return running.verdict_at(Entry::egress, frame.bytes());
    };
    EXPECT_EQ(out("203.0.113.5", "10.9.0.7", 80), kPass);
    EXPECT_EQ(out("10.9.0.7", "198.51.100.1", 80), kDrop);  // the peer is where it goes
    EXPECT_EQ(out("203.0.113.5", "192.0.2.1", 22), kPass);  // the answer of what is protected
    EXPECT_EQ(out("203.0.113.5", "192.0.2.1", 23), kDrop);
    EXPECT_EQ(out("203.0.113.5", "198.51.100.1", 6443), kPass);  // a host port's answer
    EXPECT_EQ(out("203.0.113.6", "198.51.100.1", 6443), kDrop);  // not the node's address
  });
}

TEST(GuardFields, BansAndSynRatesAreForWhatComesIn) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan plan = guard_plan({towards(count("out"), GuardDirection::egress)});
    plan.source_syn = PacketRate{1, hours(1), 1};
    running.apply(plan);
    ASSERT_TRUE(running.guard->ban(prefix("198.51.100.7"), hours(1), "test"));
    const auto banned = tcp("198.51.100.7", "10.0.0.1").bytes();
    EXPECT_EQ(running.verdict_at(Entry::ingress, banned), kDrop);
    EXPECT_EQ(running.verdict_at(Entry::egress, banned), kPass);
    const auto first = syn("198.51.100.8", "10.0.0.1").bytes();
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(running.verdict_at(Entry::egress, first), kPass);
    EXPECT_EQ(running.verdict_at(Entry::ingress, first), kPass);
    EXPECT_EQ(running.verdict_at(Entry::ingress, first), kDrop);
  });
}

TEST(GuardFields, ARuleHoldsOnItsInterfacesAloneAndOthersOnTheGuards) {
  in_sandbox([] {
    shell(
        "ip link add in0 type veth peer name in1; ip link add out0 type veth peer name out1; "
        "for i in in0 in1 out0 out1; do ip link set $i up; done");
    RunningGuard running;
    GuardPlan plan = guard_plan({only_on(drop("named", from({"198.51.100.1"})), {"out*"}),
                                 drop("everywhere", from({"198.51.100.2"}))});
    plan.interfaces = {"in0"};
    running.apply(plan);
    EXPECT_EQ(running.guard->attached(), (std::vector<std::string>{"in0", "out1", "out0"}));
    const auto verdict = [&](const char* interface, const char* source) {
      return running.verdict(tcp(source, "10.0.0.1").bytes(), if_nametoindex(interface));
    };
    EXPECT_EQ(verdict("in0", "198.51.100.1"), kPass);
    EXPECT_EQ(verdict("in0", "198.51.100.2"), kDrop);
    EXPECT_EQ(verdict("out0", "198.51.100.1"), kDrop);
    EXPECT_EQ(verdict("out0", "198.51.100.2"), kPass);
    // A rename moves the rule.
    shell("ip link set out0 down; ip link set out0 name in7; ip link set in7 up");
    ASSERT_TRUE(running.guard->tick());
    EXPECT_EQ(verdict("in7", "198.51.100.1"), kPass);
    EXPECT_EQ(running.guard->attached(), (std::vector<std::string>{"in0", "out1"}));
    // And a new interface gets it.
    shell("ip link add out9 type veth peer name far9");
    ASSERT_TRUE(running.guard->tick());
    EXPECT_EQ(verdict("out9", "198.51.100.1"), kDrop);
  });
}

TEST(GuardFields, AnInterfaceThatComesWhileAPlanWaitsForItsCommitHasItsRules) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(guard_plan({}));
    GuardPlan plan = guard_plan({drop("everywhere", from({"198.51.100.2"}))});
    plan.interfaces = {"late*"};
    ASSERT_TRUE(running.guard->prepare(plan, {}, {}));
    shell("ip link add late0 type veth peer name far0");
    ASSERT_TRUE(running.guard->tick());
    ASSERT_TRUE(running.guard->commit(++running.generation));
    const auto frame = tcp("198.51.100.2", "10.0.0.1").bytes();
    EXPECT_EQ(running.verdict(frame, if_nametoindex("late0")), kDrop);
    ASSERT_TRUE(running.guard->tick());
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"late0"});
  });
}

TEST(GuardFields, AuditCountsReportsAndPasses) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({auditing(drop("try", from({"198.51.100.0/24"}))),
                   drop("real", from({"198.51.100.7"})), auditing(limit("rate", 1))});
    std::vector<DropEvent> events;
    const auto keep = [&](const DropEvent& event) { events.push_back(event); };
    running.guard->poll_events(keep);
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("203.0.113.1", "10.0.0.1")), kPass);
    running.guard->poll_events(keep);
    EXPECT_EQ(running.counter("try").packets, 2U);
    EXPECT_EQ(running.counter("try").would_drop, 2U);
    EXPECT_EQ(running.counter("try").dropped, 0U);
    EXPECT_EQ(running.counter("real").dropped, 1U);
    EXPECT_EQ(running.counter("rate").would_drop, 1U);  // the first one emptied it
    EXPECT_EQ(running.sample("sluice_guard_notes_total", "would_drop"), 2);
    ASSERT_EQ(events.size(), 3U);
    EXPECT_TRUE(events[0].audit);
    EXPECT_EQ(events[0].rule, "try");
    EXPECT_FALSE(events[1].audit);
    EXPECT_EQ(events[1].rule, "real");
    EXPECT_TRUE(events[2].audit);
    EXPECT_EQ(events[2].reason, "limit");
  });
}

TEST(GuardFields, ALimitLetsABurstPassAndThenItsRate) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({limit("slow", 3, from({"198.51.100.0/24"}))});
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kPass) << i;
    EXPECT_EQ(running.verdict(tcp("198.51.100.2", "10.0.0.1")), kDrop);  // of all together
    EXPECT_EQ(running.verdict(tcp("203.0.113.1", "10.0.0.1")), kPass);
    EXPECT_EQ(running.counter("slow").packets, 4U);
    EXPECT_EQ(running.counter("slow").dropped, 1U);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "limit"), 1);
    // A reload does not fill the bucket.
    running.apply({count("other"), limit("slow", 3, from({"198.51.100.0/24"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.0.0.1")), kDrop);
    // A faster one waits as long as its own burst takes, not as long as the slower one's.
    GuardRule faster = limit("slow", 1, from({"198.51.100.0/24"}));
    faster.rate = PacketRate{100, std::chrono::seconds(1), 1};
    running.apply({faster});
    int verdict = kDrop;
    for (int i = 0; i < 500 && verdict == kDrop; ++i) {
      ::usleep(10'000);
      verdict = running.verdict(tcp("198.51.100.1", "10.0.0.1"));
    }
    EXPECT_EQ(verdict, kPass);
    // 10,000 in a second: one every 100 µs, so some pass again while others do not.
    GuardRule fast = limit("fast", 1, from({"203.0.113.0/24"}));
    fast.rate = PacketRate{10'000, std::chrono::seconds(1), 1};
    running.apply({fast});
    int passed = 0;
    for (int i = 0; i < 10'000; ++i)
      passed += running.verdict(tcp("203.0.113.1", "10.0.0.1")) == kPass ? 1 : 0;
    EXPECT_GT(passed, 1);
    EXPECT_EQ(running.counter("fast").packets - running.counter("fast").dropped,
              static_cast<std::uint64_t>(passed));
  });
}

TEST(GuardFields, ADroppedPacketCostsNoLimit) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({limit("rate", 1), drop("bad", from({"198.51.100.7"}))});
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.counter("rate").dropped, 0U);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1")), kDrop);
  });
}

TEST(GuardFields, SegmentsCostALimitAndABufferOfMoreThanTheBurstPasses) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({limit("rate", 10)});
    const auto big = tcp("198.51.100.7", "10.0.0.1").bytes();
    EXPECT_EQ(running.verdict(big, 0, 6), kPass);
    EXPECT_EQ(running.verdict(big, 0, 6), kDrop);
    EXPECT_EQ(running.verdict(big, 0, 4), kPass);
    running.apply({limit("another", 10)});
    EXPECT_EQ(running.verdict(big, 0, 44), kPass);  // else it never could
    EXPECT_EQ(running.verdict(big, 0, 1), kDrop);
  });
}

TEST(GuardSynRates, CountOneSourceApartFromAnother) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan plan = guard_plan({});
    plan.source_syn = PacketRate{1, hours(1), 2};
    running.apply(plan, {{prefix("192.0.2.9"), {}, {}}});
    const auto passes = [&](const Frame& frame) { return running.verdict(frame) == kPass; };
    EXPECT_TRUE(passes(syn("198.51.100.1", "10.0.0.1")));
    EXPECT_TRUE(passes(syn("198.51.100.1", "10.0.0.2", 443)));
    EXPECT_FALSE(passes(syn("198.51.100.1", "10.0.0.3", 22)));
    EXPECT_TRUE(passes(syn("198.51.100.2", "10.0.0.1")));
    EXPECT_TRUE(passes(tcp("198.51.100.1", "10.0.0.1")));  // no SYN
    Frame answer = syn("198.51.100.1", "10.0.0.1");
    answer.tcp_flags = 0x12;  // SYN and ACK
    EXPECT_TRUE(passes(answer));
    EXPECT_TRUE(passes(udp("198.51.100.1", "10.0.0.1")));
    // One in fragments so short that its flags are in the second.
    Frame hidden = syn("198.51.100.3", "10.0.0.1");
    hidden.payload = 4;
    hidden.more_fragments = true;
    EXPECT_TRUE(passes(hidden));
    EXPECT_TRUE(passes(hidden));
    EXPECT_FALSE(passes(hidden));
    // IPv6 by /64.
    EXPECT_TRUE(passes(syn("2001:db8:1:1::1", "2001:db8::1")));
    EXPECT_TRUE(passes(syn("2001:db8:1:1::2", "2001:db8::1")));
    EXPECT_FALSE(passes(syn("2001:db8:1:1::3", "2001:db8::1")));
    EXPECT_TRUE(passes(syn("2001:db8:1:2::1", "2001:db8::1")));
    for (int i = 0; i < 4; ++i)
      EXPECT_TRUE(passes(syn("192.0.2.9", "10.0.0.1")));  // protected
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "source_syn"), 3);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_syn_sources"), 6);
    // A reload keeps the buckets, and so does the next keeper.
    running.apply(plan);
    EXPECT_FALSE(passes(syn("198.51.100.1", "10.0.0.1")));
    running.reopen();
    EXPECT_FALSE(passes(syn("198.51.100.1", "10.0.0.1")));
    plan.audit_syn = true;
    running.apply(plan);
    EXPECT_TRUE(passes(syn("198.51.100.1", "10.0.0.1")));
    EXPECT_EQ(running.sample("sluice_guard_notes_total", "would_drop"), 1);
  });
}

TEST(GuardSynRates, CountOneServiceWhoeverAsks) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan plan = guard_plan({});
    plan.service_syn = PacketRate{1, hours(1), 3};
    running.apply(plan);
    for (int i = 1; i <= 3; ++i)
      EXPECT_EQ(running.verdict(syn("198.51.100." + std::to_string(i), "10.0.0.1", 443)), kPass);
    EXPECT_EQ(running.verdict(syn("198.51.100.9", "10.0.0.1", 443)), kDrop);
    EXPECT_EQ(running.verdict(syn("198.51.100.9", "10.0.0.1", 80)), kPass);
    EXPECT_EQ(running.verdict(syn("198.51.100.9", "10.0.0.2", 443)), kPass);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "service_syn"), 1);
  });
}

TEST(GuardMaps, ExportWhatTheyHoldAndTake) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan plan = guard_plan({drop("a", from({"198.51.100.0/24", "2001:db8::/32"})),
                                 drop("b", to({"203.0.113.1", "198.51.100.0/24"}))});
    plan.max_bans = 1;
    running.apply(plan);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_prefixes4"), 3);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_prefixes6"), 1);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_rules"), 2);
    EXPECT_EQ(running.sample("sluice_kernel_map_capacity", "guard_rules"), 1024);
    EXPECT_EQ(running.sample("sluice_kernel_map_capacity", "guard_bans"), 1);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_leaves4"), 3);
    EXPECT_EQ(running.sample("sluice_kernel_map_capacity", "guard_leaves4"), 2 << 24);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_classes"), 3);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_events"), 0);
    EXPECT_EQ(running.sample("sluice_kernel_map_capacity", "guard_events"), 256 * 1024 / 72);
    for (const char* map : {"guard_classes", "guard_leaves4", "guard_prefixes6", "guard_protect",
                            "guard_events", "guard_rules"})
      EXPECT_EQ(running.sample("sluice_kernel_map_insert_failures_total", map), 0) << map;
    ASSERT_TRUE(running.guard->ban(prefix("192.0.2.1"), hours(1), ""));
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_bans"), 1);
    EXPECT_EQ(running.sample("sluice_kernel_map_insert_failures_total", "guard_bans"), 0);
    EXPECT_FALSE(running.guard->ban(prefix("192.0.2.2"), hours(1), ""));
    EXPECT_EQ(running.sample("sluice_kernel_map_insert_failures_total", "guard_bans"), 1);
  });
}

TEST(GuardEvents, WhatTheSampleLeavesOutIsCounted) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("all")});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.guard->unreported_events(), 0U);  // nobody watched
    std::uint64_t seen = 0;
    const auto count_them = [&](const DropEvent&) { ++seen; };
    running.guard->poll_events(count_them);
    for (int i = 0; i < 2000; ++i)
      EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    running.guard->poll_events(count_them);
    EXPECT_GT(running.guard->unreported_events(), 0U);
    EXPECT_EQ(seen + running.guard->unreported_events(), 2000U);
  });
}

}  // namespace
}  // namespace sluice::kernel
