// What a rule means: field by field, except, drop and count, protect above all. The program itself
// judges each frame.
#include <gtest/gtest.h>
#include <net/if.h>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

GuardRule of_protocol(GuardRule rule, std::uint8_t protocol) {
  rule.protocol = protocol;
  return rule;
}

TEST(GuardRules, WithoutRulesEverythingPasses) {
  in_sandbox([] {
    RunningGuard running;
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kPass);  // before the first plan
    running.apply(std::vector<GuardRule>{});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8::1")), kPass);
  });
}

TEST(GuardRules, SourcePrefixesOfEveryKind) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(
        {drop("r", from({"198.51.100.7", "203.0.113.0/24", "2001:db8:1::/48", "2001:db8:2::9"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.6", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("203.0.113.0", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("203.0.113.255", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("203.0.114.0", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("203.0.112.255", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8:1:ffff::1", "2001:db8::1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8:2::9", "2001:db8::1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8:2::8", "2001:db8::1")), kPass);
    // The other end is not the source.
    EXPECT_EQ(running.verdict(tcp("10.0.0.1", "198.51.100.7")), kPass);
    EXPECT_EQ(running.packets("r"), 5U);
  });
}

TEST(GuardRules, DestinationPrefixes) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("r", to({"198.51.100.0/25", "2001:db8:1::/64"}))});
    EXPECT_EQ(running.verdict(tcp("10.0.0.1", "198.51.100.127")), kDrop);
    EXPECT_EQ(running.verdict(tcp("10.0.0.1", "198.51.100.128")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8::1", "2001:db8:1::ffff")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8::1", "2001:db8:1:1::")), kPass);
  });
}

TEST(GuardRules, EverythingOfOneVersionIsNothingOfTheOther) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("v4", from({"0.0.0.0/0"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8::1")), kPass);
    running.apply({drop("v6", to({"::/0"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8::1")), kDrop);
  });
}

TEST(GuardRules, ARuleWithoutFieldsMatchesBothVersions) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("all")});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8::1")), kDrop);
  });
}

TEST(GuardRules, EveryFieldMustMatch) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(
        {of_protocol(drop("r", from({"198.51.100.0/24"}) & to({"10.0.0.1"}) & to_ports({{80, 90}}) &
                                   from_ports({{40000, 40000}, {50000, 65535}})),
                     6)});
    const Frame all = tcp("198.51.100.7", "10.0.0.1", 85);
    EXPECT_EQ(running.verdict(all), kDrop);
    Frame other = all;
    other.to_port = 91;
    EXPECT_EQ(running.verdict(other), kPass);
    other = all;
    other.to_port = 79;
    EXPECT_EQ(running.verdict(other), kPass);
    other = all;
    other.from_port = 40001;
    EXPECT_EQ(running.verdict(other), kPass);
    other = all;
    other.from_port = 65535;
    EXPECT_EQ(running.verdict(other), kDrop);
    other = all;
    other.protocol = 17;
    EXPECT_EQ(running.verdict(other), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.101.7", "10.0.0.1", 85)), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.2", 85)), kPass);
  });
}

TEST(GuardRules, PortsWithoutAProtocolMeanAnyThatHasThem) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("r", to_ports({{0, 0}, {53, 53}, {65535, 65535}}))});
    for (const int protocol : {6, 17, 33, 132, 136}) {
      Frame frame = tcp("198.51.100.7", "10.0.0.1", 53);
      frame.protocol = static_cast<std::uint8_t>(protocol);
      EXPECT_EQ(running.verdict(frame), kDrop) << protocol;
    }
    // GRE: the bytes where ports would be say 53.
    Frame gre = tcp("198.51.100.7", "10.0.0.1");
    gre.protocol = 47;
    EXPECT_EQ(running.verdict(gre), kPass);
    EXPECT_EQ(running.verdict(icmp("198.51.100.7", "10.0.0.1", 8)), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 0)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 65535)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 65534)), kPass);
  });
}

TEST(GuardRules, ProtocolAlone) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(
        {of_protocol(drop("udp"), 17), of_protocol(drop("icmp"), 1), of_protocol(drop("gre"), 47)});
    EXPECT_EQ(running.verdict(udp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(udp("2001:db8::7", "2001:db8::1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(icmp("198.51.100.7", "10.0.0.1", 8)), kDrop);
    EXPECT_EQ(running.verdict(icmp("2001:db8::7", "2001:db8::1", 128)), kPass);
  });
}

TEST(GuardRules, ExceptSparesOnlyWhatAllItsFieldsName) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(
        {drop("ssh", to_ports({{22, 22}}), from({"198.51.100.0/24"}) & to({"10.0.0.1"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 22)), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.2", 22)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.101.7", "10.0.0.1", 22)), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8::1", 22)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.101.7", "10.0.0.1", 23)), kPass);
  });
}

TEST(GuardRules, ExceptInsideTheSameField) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("r", from({"10.0.0.0/8"}), from({"10.1.0.0/16", "10.2.2.2"})),
                   drop("ports", to_ports({{1000, 2000}}), to_ports({{1500, 1510}}))});
    EXPECT_EQ(running.verdict(tcp("10.3.0.1", "192.0.2.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("10.1.9.9", "192.0.2.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("10.2.2.2", "192.0.2.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("10.2.2.3", "192.0.2.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("192.0.2.2", "192.0.2.1", 1499)), kDrop);
    EXPECT_EQ(running.verdict(tcp("192.0.2.2", "192.0.2.1", 1500)), kPass);
    EXPECT_EQ(running.verdict(tcp("192.0.2.2", "192.0.2.1", 1510)), kPass);
    EXPECT_EQ(running.verdict(tcp("192.0.2.2", "192.0.2.1", 1511)), kDrop);
  });
}

TEST(GuardRules, CountOnlyCountsAndEveryMatchingRuleCounts) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({count("watch", from({"198.51.100.0/24"})), drop("first", from({"198.51.100.7"})),
                   drop("second", to_ports({{80, 80}})), count("other", from({"192.0.2.0/24"}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.9", "10.0.0.1", 81)), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 80)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.9", "10.0.0.1", 80)), kDrop);
    EXPECT_EQ(running.packets("watch"), 3U);
    EXPECT_EQ(running.packets("first"), 1U);
    EXPECT_EQ(running.packets("second"), 2U);
    EXPECT_EQ(running.packets("other"), 0U);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "rule"), 2);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "not_named"), 1);
  });
}

TEST(GuardRules, TheFirstMatchingDropOfTheFileIsReported) {
  in_sandbox([] {
    RunningGuard running;
    std::vector<GuardRule> rules;
    for (int i = 0; i < 200; ++i)
      rules.push_back(count("c" + std::to_string(i)));
    rules[130] = drop("late", to_ports({{80, 80}}));
    rules[70] = drop("early", from({"198.51.100.0/24"}));
    rules[5] = drop("unmatched", from({"192.0.2.0/24"}));
    running.apply(rules);
    std::vector<DropEvent> events;
    const auto keep = [&](const DropEvent& event) { events.push_back(event); };
    running.guard->poll_events(keep);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 80)), kDrop);
    running.guard->poll_events(keep);
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].rule, "early");
    EXPECT_EQ(events[0].reason, "rule");
    EXPECT_EQ(events[0].from, prefix("198.51.100.7"));
    EXPECT_EQ(events[0].to, prefix("10.0.0.1"));
    EXPECT_EQ(events[0].protocol, 6);
    EXPECT_EQ(events[0].from_port, 40000);
    EXPECT_EQ(events[0].to_port, 80);
    EXPECT_EQ(running.packets("early"), 1U);
    EXPECT_EQ(running.packets("late"), 1U);
    EXPECT_EQ(running.packets("c0"), 1U);
    EXPECT_EQ(running.packets("c199"), 1U);
  });
}

TEST(GuardRules, SegmentsCountAsPackets) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("r", from({"198.51.100.7"}))});
    Frame big = tcp("198.51.100.7", "10.0.0.1");
    big.payload = 3000;
    EXPECT_EQ(running.verdict(big.bytes(), 0, 7), kDrop);
    EXPECT_EQ(running.packets("r"), 7U);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "rule"), 7);
    // From a guest: how long they are, and not how many. 3004 bytes of which 16 are TCP's header.
    EXPECT_EQ(running.verdict(big.bytes(), 0, 0, 1000), kDrop);
    EXPECT_EQ(running.packets("r"), 10U);
  });
}

TEST(GuardRules, TheMostRulesAndOneMore) {
  in_sandbox([] {
    RunningGuard running;
    std::vector<GuardRule> rules;
    for (int i = 0; i < 1024; ++i) {
      rules.push_back(drop("r" + std::to_string(i), to_ports({{static_cast<std::uint16_t>(i),
                                                               static_cast<std::uint16_t>(i)}})));
    }
    running.apply(rules);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 1023)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 1024)), kPass);
    EXPECT_EQ(running.packets("r1023"), 1U);
    rules.push_back(drop("one-more"));
    const auto refused = running.guard->prepare(guard_plan(rules), {}, {});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("1024"), std::string::npos) << refused.error().message;
    // Nothing changed: a failed prepare leaves no trace.
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1", 1023)), kDrop);
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_rules"), 1024);
    EXPECT_EQ(running.sample("sluice_kernel_map_insert_failures_total", "guard_rules"), 1);
    rules.pop_back();
    running.apply(rules);
    EXPECT_EQ(running.packets("r1023"), 2U);
  });
}

TEST(GuardProtect, WinsOverRules) {
  in_sandbox([] {
    RunningGuard running;
    const std::vector<Protect> protect{{prefix("10.9.0.0/24"), {}, {}},
                                       {prefix("192.0.2.0/24"), {{22, 22}, {8000, 8100}}, {}},
                                       {prefix("2001:db8:9::/48"), {}, {}}};
    running.apply({drop("all"), count("audit")}, protect);
    EXPECT_EQ(running.verdict(tcp("10.9.0.5", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(icmp("10.9.0.5", "10.0.0.1", 8)), kPass);
    EXPECT_EQ(running.verdict(tcp("10.9.1.5", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8:9::1", "2001:db8::1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8:a::1", "2001:db8::1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1", 22)), kPass);
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1", 8100)), kPass);
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1", 80)), kDrop);
    // It looks at the peer: the source, on ingress.
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "10.9.0.5")), kDrop);
    EXPECT_EQ(running.packets("all"), 4U);
    EXPECT_EQ(running.packets("audit"), 4U);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "protect"), 5);
  });
}

TEST(GuardProtect, OverlappingEntriesAddUp) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("all")}, {{prefix("10.0.0.0/8"), {{22, 22}}, {}},
                                  {prefix("10.9.0.0/24"), {{80, 80}}, {}}});
    EXPECT_EQ(running.verdict(tcp("10.9.0.5", "192.0.2.1", 22)), kPass);
    EXPECT_EQ(running.verdict(tcp("10.9.0.5", "192.0.2.1", 80)), kPass);
    EXPECT_EQ(running.verdict(tcp("10.8.0.5", "192.0.2.1", 80)), kDrop);
  });
}

TEST(GuardProtect, OnNamedInterfacesOnly) {
  in_sandbox([] {
    shell(
        "ip link add inner0 type veth peer name inner1; ip link set inner0 up; ip link set inner1 "
        "up");
    RunningGuard running;
    running.apply({drop("all")}, {{prefix("10.9.0.0/24"), {}, {"inner0"}}});
    const auto frame = tcp("10.9.0.5", "10.0.0.1").bytes();
    EXPECT_EQ(running.verdict(frame, if_nametoindex("inner0")), kPass);
    EXPECT_EQ(running.verdict(frame, if_nametoindex("inner1")), kDrop);
    // A rename moves the protection; only tick() and the kernel know.
    shell("ip link set inner0 down; ip link set inner0 name outer0; ip link set outer0 up");
    const auto done = running.guard->tick();
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ(running.verdict(frame, if_nametoindex("outer0")), kDrop);
  });
}

TEST(GuardProtect, HostPortsOfOwnAddresses) {
  in_sandbox([] {
    shell(
        "ip link add own0 type veth peer name own1; ip link set own1 up; ip addr add "
        "203.0.113.5/24 dev own0; ip -6 addr add "
        "2001:db8:5::5/64 dev own0 nodad; ip "
        "link set own0 up");
    RunningGuard running;
    running.apply({drop("all")}, {}, {22, 6443});
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "203.0.113.5", 22)), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "203.0.113.5", 23)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "203.0.113.6", 22)), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8:5::5", 6443)), kPass);
    shell("ip addr del 203.0.113.5/24 dev own0; ip addr add 203.0.113.6/24 dev own0");
    EXPECT_TRUE(running.guard->tick());
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "203.0.113.5", 22)), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "203.0.113.6", 22)), kPass);
    shell("ip addr del 203.0.113.6/24 dev own0");  // and nobody there to hear of it
    running.reopen();
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "203.0.113.6", 22)), kDrop);
  });
}

TEST(GuardProtect, WhatTheNetworkNeedsIsNeverDropped) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("all")});
    for (const int type : {3, 11, 12}) {
      EXPECT_EQ(running.verdict(icmp("198.51.100.7", "10.0.0.1", static_cast<std::uint8_t>(type))),
                kPass)
          << type;
    }
    for (const int type : {0, 5, 8, 13}) {
      EXPECT_EQ(running.verdict(icmp("198.51.100.7", "10.0.0.1", static_cast<std::uint8_t>(type))),
                kDrop)
          << type;
    }
    for (const int type : {1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 137, 143}) {
      EXPECT_EQ(running.verdict(icmp("fe80::7", "fe80::1", static_cast<std::uint8_t>(type))), kPass)
          << type;
    }
    for (const int type : {128, 129, 138, 144}) {
      EXPECT_EQ(running.verdict(icmp("fe80::7", "fe80::1", static_cast<std::uint8_t>(type))), kDrop)
          << type;
    }
    // ICMP of one version inside the other is not ICMP.
    Frame odd = icmp("198.51.100.7", "10.0.0.1", 3);
    odd.protocol = 58;
    EXPECT_EQ(running.verdict(odd), kDrop);

    Frame dhcp = udp("198.51.100.7", "255.255.255.255", 68);
    dhcp.from_port = 67;
    EXPECT_EQ(running.verdict(dhcp), kPass);
    dhcp.from_port = 40000;
    EXPECT_EQ(running.verdict(dhcp), kDrop);
    EXPECT_EQ(running.verdict(udp("fe80::7", "fe80::1", 546)), kPass);
    EXPECT_EQ(running.verdict(tcp("fe80::7", "fe80::1", 546)), kDrop);
    std::vector<std::uint8_t> arp(60);
    arp[12] = 0x08;
    arp[13] = 0x06;
    EXPECT_EQ(running.verdict(arp), kPass);
  });
}

TEST(GuardProtect, TheDefaultGatewayIsProtectedAndFollowed) {
  in_sandbox([] {
    shell(
        "ip link add up0 type veth peer name up1; ip link set up1 up; ip addr add 10.20.0.5/24 dev "
        "up0; ip link set up0 up; ip "
        "route add default via 10.20.0.1");
    RunningGuard running;
    running.apply({drop("all")});
    EXPECT_EQ(running.verdict(tcp("10.20.0.1", "10.20.0.5")), kPass);
    EXPECT_EQ(running.verdict(tcp("10.20.0.2", "10.20.0.5")), kDrop);
    shell("ip route replace default via 10.20.0.2");
    const auto done = running.guard->tick();
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ(running.verdict(tcp("10.20.0.1", "10.20.0.5")), kDrop);
    EXPECT_EQ(running.verdict(tcp("10.20.0.2", "10.20.0.5")), kPass);
    EXPECT_EQ(running.packets("all"), 2U);
  });
}

TEST(GuardProtect, TooManyKindsAreRefused) {
  in_sandbox([] {
    RunningGuard running;
    std::vector<Protect> protect;
    for (int i = 1; i <= 64; ++i)
      protect.push_back({prefix("10.9.0.1"), {{0, static_cast<std::uint16_t>(i)}}, {}});
    const auto refused = running.guard->prepare(guard_plan({}), protect, {});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("63"), std::string::npos) << refused.error().message;
  });
}

}  // namespace
}  // namespace sluice::kernel
