// Bans: drop, count, end, and are refused where they must be.
#include <chrono>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

void ban(RunningGuard& running, const std::string& source, milliseconds duration = hours(1),
         const std::string& reason = "test") {
  const auto done = running.guard->ban(prefix(source), duration, reason);
  EXPECT_TRUE(done) << done.error().message;
}

std::string refused(RunningGuard& running, const std::string& source) {
  const auto done = running.guard->ban(prefix(source), hours(1), "test");
  EXPECT_FALSE(done) << source;
  return done ? "" : done.error().message;
}

TEST(GuardBans, DropCountAndEndWhenLifted) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(std::vector<GuardRule>{});
    ban(running, "198.51.100.7", hours(1), "too many requests");
    ban(running, "203.0.113.0/24");
    ban(running, "2001:db8:1:2::/64");
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(udp("198.51.100.7", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("203.0.113.255", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("203.0.114.0", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8:1:2:ffff::9", "2001:db8::1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("2001:db8:1:3::9", "2001:db8::1")), kPass);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "ban"), 4);
    const auto bans = running.guard->bans();
    ASSERT_EQ(bans.size(), 3U);
    for (const Ban& one : bans) {
      if (one.source != prefix("198.51.100.7")) continue;
      EXPECT_EQ(one.packets, 2U);
      EXPECT_EQ(one.bytes, 2 * tcp("198.51.100.7", "10.0.0.1").bytes().size());
      EXPECT_EQ(one.reason, "too many requests");
      EXPECT_GT(one.left, seconds(3500));
      EXPECT_LE(one.left, seconds(3600));
    }
    EXPECT_TRUE(running.guard->unban(prefix("198.51.100.7")).value());
    EXPECT_FALSE(running.guard->unban(prefix("198.51.100.7")).value());
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kPass);
    EXPECT_EQ(running.guard->bans().size(), 2U);
  });
}

TEST(GuardBans, EveryPrefixLength) {
  in_sandbox([] {
    for (const int length : {1, 8, 31, 32}) {
      RunningGuard running;
      running.apply(std::vector<GuardRule>{});
      Prefix source = prefix("200.10.11.13");
      source.length = static_cast<std::uint8_t>(96 + length);
      ASSERT_TRUE(running.guard->ban(source, hours(1), "host bits are cleared"));
      EXPECT_EQ(running.verdict(tcp("200.10.11.13", "10.0.0.1")), kDrop) << length;
      EXPECT_EQ(running.verdict(tcp("200.10.11.12", "10.0.0.1")), length < 32 ? kDrop : kPass)
          << length;
      EXPECT_EQ(running.verdict(tcp("72.10.11.13", "10.0.0.1")), kPass) << length;
      EXPECT_TRUE(running.guard->unban(source).value());
    }
    for (const int length : {1, 48, 63, 64, 65, 127, 128}) {
      RunningGuard running;
      running.apply(std::vector<GuardRule>{});
      Prefix source = prefix("a001:db8:1:3:8000::3");
      source.length = static_cast<std::uint8_t>(length);
      ASSERT_TRUE(running.guard->ban(source, hours(1), ""));
      EXPECT_EQ(running.verdict(tcp("a001:db8:1:3:8000::3", "::9")), kDrop) << length;
      EXPECT_EQ(running.verdict(tcp("a001:db8:1:3:8000::2", "::9")), length < 128 ? kDrop : kPass)
          << length;
      EXPECT_EQ(running.verdict(tcp("a001:db8:1:3::", "::9")), length < 65 ? kDrop : kPass)
          << length;
      EXPECT_EQ(running.verdict(tcp("a001:db8:1:2::", "::9")), length < 64 ? kDrop : kPass)
          << length;
      EXPECT_EQ(running.verdict(tcp("2001:db8::", "::9")), kPass) << length;
      EXPECT_TRUE(running.guard->unban(source).value());
    }
  });
}

TEST(GuardBans, EndByThemselves) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(std::vector<GuardRule>{});
    ban(running, "198.51.100.7", milliseconds(1500));
    ban(running, "198.51.100.9");
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    // The program sees the end by itself: no tick here.
    int verdict = kDrop;
    for (int i = 0; i < 1000 && verdict == kDrop; ++i) {
      ::usleep(10'000);
      verdict = running.verdict(tcp("198.51.100.7", "10.0.0.1"));
    }
    EXPECT_EQ(verdict, kPass);
    EXPECT_EQ(running.guard->bans().size(), 1U);
    EXPECT_EQ(running.sample("sluice_guard_bans"), 2);
    EXPECT_TRUE(running.guard->tick());
    EXPECT_EQ(running.sample("sluice_guard_bans"), 1);
    EXPECT_EQ(running.verdict(tcp("198.51.100.9", "10.0.0.1")), kDrop);
  });
}

TEST(GuardBans, ARenewedBanKeepsItsCounters) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(std::vector<GuardRule>{});
    ban(running, "198.51.100.7", seconds(30), "first");
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kDrop);
    ban(running, "198.51.100.7", hours(2), "second");
    const auto bans = running.guard->bans();
    ASSERT_EQ(bans.size(), 1U);
    EXPECT_EQ(bans[0].packets, 1U);
    EXPECT_EQ(bans[0].reason, "second");
    EXPECT_GT(bans[0].left, hours(1));
  });
}

TEST(GuardBans, ProtectWinsOverBans) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("all")},
                  {{prefix("10.9.0.1"), {}, {}}, {prefix("192.0.2.1"), {{22, 22}}, {}}});
    ban(running, "10.9.0.0/24");
    ban(running, "192.0.2.1");
    EXPECT_EQ(running.verdict(tcp("10.9.0.1", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("10.9.0.2", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1", 22)), kPass);
    EXPECT_EQ(running.verdict(tcp("192.0.2.1", "10.0.0.1", 80)), kDrop);
    EXPECT_EQ(running.verdict(icmp("10.9.0.2", "10.0.0.1", 3)), kPass);
    // Banned packets never reach the rules.
    EXPECT_EQ(running.packets("all"), 0U);
  });
}

// Nobody knows the policy then but the kernel.
TEST(GuardBans, WhatTheLastPolicyProtectedIsRefusedWithoutAPolicy) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(guard_plan({}), {{prefix("10.9.0.0/24"), {}, {}},
                                   {prefix("2001:db8:9::/48"), {}, {}},
                                   {prefix("192.0.2.1"), {{22, 22}}, {}}});
    running.reopen();
    EXPECT_NE(refused(running, "10.9.0.7").find("in force last protects it"), std::string::npos);
    EXPECT_NE(refused(running, "2001:db8:9::7").find("protects it"), std::string::npos);
    EXPECT_NE(refused(running, "10.9.0.0/25").find("protects it"), std::string::npos);
    ban(running, "10.9.0.0/23");
    ban(running, "2001:db8:8::7");
    ban(running, "192.0.2.1");  // protected at one port
  });
}

TEST(GuardBans, ABanThatALaterPolicySparesIsTold) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(guard_plan({}));
    ban(running, "10.9.0.7");
    EXPECT_FALSE(running.guard->spares(prefix("10.9.0.7")));
    running.apply(guard_plan({}), {{prefix("10.9.0.0/24"), {}, {}}});
    EXPECT_TRUE(running.guard->spares(prefix("10.9.0.7")));
    EXPECT_EQ(running.verdict(tcp("10.9.0.7", "10.0.0.1")), kPass);
    EXPECT_FALSE(running.guard->spares(prefix("10.9.0.0/16")));
    running.reopen();
    EXPECT_TRUE(running.guard->spares(prefix("10.9.0.7")));
    EXPECT_FALSE(running.guard->spares(prefix("10.9.1.7")));
  });
}

TEST(GuardBans, RefusedSourcesAreNamed) {
  in_sandbox([] {
    shell(
        "ip link add own0 type veth peer name own1; ip addr add 203.0.113.5/24 dev own0; ip link "
        "set own0 up; ip link set own1 up; ip "
        "route add default via 203.0.113.1");
    RunningGuard running;
    running.apply(guard_plan({}), {{prefix("10.9.0.0/24"), {}, {}}});
    EXPECT_NE(refused(running, "10.9.0.7").find("protect names 10.9.0.0/24"), std::string::npos);
    EXPECT_NE(refused(running, "203.0.113.5").find("own address"), std::string::npos);
    EXPECT_NE(refused(running, "203.0.113.1").find("default gateway"), std::string::npos);
    EXPECT_NE(refused(running, "127.0.0.1").find("loopback"), std::string::npos);
    EXPECT_NE(refused(running, "::1").find("loopback"), std::string::npos);
    EXPECT_NE(refused(running, "0.0.0.0/0").find("every address"), std::string::npos);
    EXPECT_NE(refused(running, "::/0").find("every address"), std::string::npos);
    EXPECT_EQ(running.sample("sluice_guard_bans_refused_total"), 7);
    EXPECT_FALSE(running.guard->ban(prefix("198.51.100.7"), milliseconds(0), ""));
    EXPECT_FALSE(running.guard->ban(prefix("198.51.100.7"), hours(24 * 366 * 11), ""));
  });
}

TEST(GuardBans, NoneHitsATrustedProxy) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan plan = guard_plan({});
    plan.never_banned = prefixes({"198.51.100.7", "203.0.113.0/24"});
    running.apply(plan);
    for (const char* source : {"198.51.100.7", "198.51.100.0/28", "203.0.113.9", "203.0.0.0/16"})
      EXPECT_NE(refused(running, source).find("trusted_proxies"), std::string::npos) << source;
    ban(running, "198.51.100.8/29");
  });
}

TEST(GuardBans, HowLongOneLastsIsKnown) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(std::vector<GuardRule>{});
    ban(running, "198.51.100.7", hours(1));
    EXPECT_TRUE(running.guard->is_banned_for(prefix("198.51.100.7"), seconds(10)));
    EXPECT_FALSE(running.guard->is_banned_for(prefix("198.51.100.7"), hours(2)));
    EXPECT_FALSE(running.guard->is_banned_for(prefix("198.51.100.8"), seconds(10)));
    EXPECT_TRUE(running.guard->unban(prefix("198.51.100.7")).value());
    EXPECT_FALSE(running.guard->is_banned_for(prefix("198.51.100.7"), seconds(10)));
  });
}

TEST(GuardBans, AFullTableRefusesAndCounts) {
  in_sandbox([] {
    RunningGuard running;
    GuardPlan plan = guard_plan({});
    plan.max_bans = 3;
    running.apply(plan);
    for (const char* source : {"198.51.100.1", "198.51.100.2", "198.51.100.3"})
      ban(running, source);
    EXPECT_NE(refused(running, "198.51.100.4").find("full"), std::string::npos);
    EXPECT_EQ(running.verdict(tcp("198.51.100.4", "10.0.0.1")), kPass);
    EXPECT_EQ(running.sample("sluice_guard_bans_refused_total"), 1);
    ban(running, "198.51.100.3");  // renewing needs no room
    EXPECT_TRUE(running.guard->unban(prefix("198.51.100.1")).value());
    ban(running, "198.51.100.4");
    // Room for more than the first table took: those there are come along.
    plan.max_bans = 5000;
    running.apply(plan);
    EXPECT_EQ(running.verdict(tcp("198.51.100.4", "10.0.0.1")), kDrop);
    for (int i = 0; i < 2000; ++i)
      ban(running, "10." + std::to_string(i / 250) + ".1." + std::to_string(i % 250));
    EXPECT_EQ(running.guard->bans().size(), 2003U);
    EXPECT_EQ(running.verdict(tcp("10.7.1.249", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("10.8.1.1", "10.0.0.1")), kPass);
    // Less room than there are bans: they stay, no new one begins.
    plan.max_bans = 10;
    running.apply(plan);
    EXPECT_EQ(running.verdict(tcp("10.7.1.249", "10.0.0.1")), kDrop);
    EXPECT_NE(refused(running, "192.0.2.1").find("full"), std::string::npos);
  });
}

TEST(GuardBans, EightPrefixLengthsOfAVersion) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(std::vector<GuardRule>{});
    for (int length = 17; length <= 24; ++length)
      ban(running, std::to_string(length) + ".0.0.0/" + std::to_string(length));
    EXPECT_NE(refused(running, "198.51.100.1").find("prefix lengths"), std::string::npos);
    ban(running, "2001:db8::/64");
    for (int length = 17; length <= 24; ++length) {
      EXPECT_EQ(running.verdict(tcp(std::to_string(length) + ".0.0.9", "192.0.2.1")), kDrop)
          << length;
    }
    EXPECT_TRUE(running.guard->unban(prefix("20.0.0.0/20")).value());
    ban(running, "198.51.100.1");
    EXPECT_EQ(running.verdict(tcp("198.51.100.1", "192.0.2.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("20.0.0.9", "192.0.2.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("24.0.0.9", "192.0.2.1")), kDrop);
  });
}

TEST(GuardBans, AreReportedAsSuch) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(std::vector<GuardRule>{});
    ban(running, "2001:db8::7");
    std::vector<DropEvent> events;
    const auto keep = [&](const DropEvent& event) { events.push_back(event); };
    EXPECT_EQ(running.verdict(tcp("2001:db8::7", "2001:db8::1")), kDrop);
    running.guard->poll_events(keep);
    EXPECT_TRUE(events.empty());  // nobody had asked yet
    for (int i = 0; i < 1000; ++i)
      EXPECT_EQ(running.verdict(icmp("2001:db8::7", "2001:db8::1", 128)), kDrop);
    running.guard->poll_events(keep);
    ASSERT_FALSE(events.empty());
    EXPECT_LT(events.size(), 1000U);  // a sample
    EXPECT_EQ(events[0].reason, "ban");
    EXPECT_EQ(events[0].rule, "");
    EXPECT_EQ(events[0].protocol, 58);
    EXPECT_EQ(events[0].to_port, -1);
    EXPECT_EQ(events[0].from, prefix("2001:db8::7"));
  });
}

}  // namespace
}  // namespace sluice::kernel
