#include "policy/bans.h"

#include <atomic>
#include <gtest/gtest.h>
#include <thread>

#include "parsing.h"

namespace sluice::policy {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
const HashKey kKey{3, 4};

// Ban rules on one limit, "a", with index 0.
BanRules rules_of(const std::string& rules, const std::string& more = "") {
  return BanRules(parse_good("version: 1\nlimits: { a: { rate: 1/s } }\nbans: { rules: [" + rules +
                             "] }\n" + more));
}

IpAddress ip(const char* text) {
  return *IpAddress::parse(text);
}

TEST(BanTracker, BansAfterCountWithinTheWindow) {
  const BanRules rules = rules_of("{ when: { limit: a, count: 3, within: 10s }, for: 60s }");
  BanTracker tracker(kKey);
  EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), kSecond));
  EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), 2 * kSecond));
  EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.2"), 2 * kSecond));
  const auto ban = tracker.strike(rules, 0, ip("192.0.2.1"), 10 * kSecond);
  ASSERT_TRUE(ban);
  EXPECT_EQ(ban->source.to_string(), "192.0.2.1/32");
  EXPECT_EQ(ban->duration, 60s);
  EXPECT_EQ(ban->mode, BanMode::enforce);
}

TEST(BanTracker, StrikesOutsideTheWindowDoNotCount) {
  const BanRules rules = rules_of("{ when: { limit: a, count: 3, within: 8s }, for: 60s }");
  BanTracker tracker(kKey);
  for (std::uint64_t i = 0; i < 100; ++i) {  // two in any eight seconds
    EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), kSecond + i * 4 * kSecond)) << i;
  }
  // The window slides: strikes at its end and after it make up one.
  BanTracker other(kKey);
  EXPECT_FALSE(other.strike(rules, 0, ip("192.0.2.1"), kSecond));
  EXPECT_FALSE(other.strike(rules, 0, ip("192.0.2.1"), 8 * kSecond));
  EXPECT_TRUE(other.strike(rules, 0, ip("192.0.2.1"), 12 * kSecond) ||
              other.strike(rules, 0, ip("192.0.2.1"), 12 * kSecond));
}

TEST(BanTracker, APardonedSourceIsBannedAgainAtItsNextOffence) {
  const BanRules rules =
      rules_of("{ when: { limit: a, count: 1, within: 1s }, for: 10s, grow: 3, up_to: 1h }");
  const Prefix v4 = *Prefix::parse("192.0.2.1/32");
  BanTracker tracker(kKey);
  ASSERT_TRUE(tracker.strike(rules, 0, ip("192.0.2.1"), kSecond));
  EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), 2 * kSecond)) << "it is banned";
  tracker.lift(rules, *Prefix::parse("192.0.2.2/32"), 3 * kSecond);
  EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), 3 * kSecond)) << "another was pardoned";
  tracker.lift(rules, v4, 3 * kSecond);
  const auto again = tracker.strike(rules, 0, ip("192.0.2.1"), 3 * kSecond);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->duration, 30s) << "and for longer";
  tracker.forget(rules, v4);
  const auto other = tracker.strike(rules, 0, ip("192.0.2.1"), 4 * kSecond);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->duration, 10s) << "somebody else's first ban";

  ASSERT_TRUE(tracker.strike(rules, 0, ip("2001:db8::1"), 10 * kSecond));
  tracker.lift(rules, *Prefix::parse("2001:db8::/64"), 11 * kSecond);
  EXPECT_TRUE(tracker.strike(rules, 0, ip("2001:db8::2"), 11 * kSecond)) << "as wide as the ban";
}

TEST(BanTracker, GrowsForRepeatersUpToTheLongestAndForgets) {
  const BanRules rules =
      rules_of("{ when: { limit: a, count: 1, within: 1s }, for: 10s, grow: 3, up_to: 1m }");
  BanTracker tracker(kKey);
  std::uint64_t now = kSecond;
  for (const Duration expected : {Duration(10s), Duration(30s), Duration(60s), Duration(60s)}) {
    const auto ban = tracker.strike(rules, 0, ip("192.0.2.1"), now);
    ASSERT_TRUE(ban);
    EXPECT_EQ(ban->duration, expected);
    // While it runs, further strikes are of no consequence.
    EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), now + 1));
    now += static_cast<std::uint64_t>(expected.count());
  }
  EXPECT_EQ(tracker.strike(rules, 0, ip("192.0.2.1"), now + 61 * kSecond)->duration, 10s);
}

TEST(BanTracker, ProtectedSourcesNever) {
  const BanRules rules =
      rules_of("{ when: { limit: a, count: 1, within: 1s } }",
               "protect: { from: [{ cidr: 10.9.0.0/24, to_ports: [22] }, \"2001:db8::7\"] }\n"
               "upstreams: { u: { endpoints: [\"192.0.2.99:80\"] } }\n");
  BanTracker tracker(kKey);
  for (const char* source : {"10.9.0.200", "127.0.0.1", "::1", "192.0.2.99", "2001:db8::1234"}) {
    EXPECT_FALSE(tracker.strike(rules, 0, ip(source), kSecond)) << source;
  }
  EXPECT_TRUE(tracker.strike(rules, 0, ip("10.9.1.1"), kSecond));
}

TEST(BanTracker, Ipv6ByPrefixAndAuditMode) {
  const BanRules rules = rules_of("{ when: { limit: a, count: 2, within: 1s }, mode: audit }");
  BanTracker tracker(kKey);
  EXPECT_FALSE(tracker.strike(rules, 0, ip("2001:db8:5::1"), kSecond));
  const auto ban = tracker.strike(rules, 0, ip("2001:db8:5::2"), kSecond);
  ASSERT_TRUE(ban);
  EXPECT_EQ(ban->source.to_string(), "2001:db8:5::/64");
  EXPECT_EQ(ban->mode, BanMode::audit);
}

TEST(BanTracker, EnforcingWinsOverAudit) {
  const BanRules rules = rules_of(
      "{ when: { limit: a, count: 1, within: 1s }, for: 1h, mode: audit },"
      "{ when: { limit: a, count: 1, within: 1s }, for: 1m }");
  const auto ban = BanTracker(kKey).strike(rules, 0, ip("192.0.2.1"), kSecond);
  ASSERT_TRUE(ban);
  EXPECT_EQ(ban->mode, BanMode::enforce);
  EXPECT_EQ(ban->rule, 1u);
}

TEST(BanTracker, ALimitWithoutRulesBansNobody) {
  const BanRules rules = rules_of("");
  BanTracker tracker(kKey);
  EXPECT_FALSE(tracker.strike(rules, 0, ip("192.0.2.1"), kSecond));
  EXPECT_FALSE(tracker.strike(rules, 99, ip("192.0.2.1"), kSecond));
}

TEST(BanTracker, AFloodOfSourcesForgetsThoseWithoutABanFirst) {
  const BanRules rules =
      rules_of("{ when: { limit: a, count: 2, within: 10s }, for: 1s, grow: 2 }");
  BanTracker tracker(kKey, 64);
  tracker.strike(rules, 0, ip("192.0.2.1"), kSecond);
  ASSERT_TRUE(tracker.strike(rules, 0, ip("192.0.2.1"), kSecond));
  for (std::uint32_t i = 0; i < 10'000; ++i)
    tracker.strike(rules, 0, IpAddress::v4(0x0b000000 + i), 2 * kSecond);
  tracker.strike(rules, 0, ip("192.0.2.1"), 3 * kSecond);
  const auto again = tracker.strike(rules, 0, ip("192.0.2.1"), 3 * kSecond);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->duration, 2s);
}

TEST(BanTracker, ThreadsTogetherBanOnce) {
  const BanRules rules = rules_of("{ when: { limit: a, count: 100, within: 10s } }");
  BanTracker tracker(kKey);
  std::atomic<int> bans{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i)
        bans += tracker.strike(rules, 0, ip("192.0.2.1"), kSecond).has_value();
    });
  }
  threads.clear();
  EXPECT_EQ(bans, 1);
}

}  // namespace
}  // namespace sluice::policy
