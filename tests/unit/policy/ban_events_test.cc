// Bans by event, their rate, and sources that go to another upstream instead.
#include <gmock/gmock.h>
#include <random>
#include <thread>

#include "parsing.h"
#include "policy/bans.h"
#include "policy/bans_diverted.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kSecond = 1'000'000'000;
const HashKey kKey{3, 4};

constexpr const char* kBase =
    "version: 1\nlisteners: { web: {} }\nlimits: { a: { rate: 1/s } }\n"
    "upstreams: { api: { endpoints: [\"192.0.2.77:80\"] }, trap: { endpoints: [\"192.0.2.78:80\"] } }\n"
    "routes: [{ name: bait, path: /bait, upstream: api }, { name: rest, upstream: api }]\n";

BanRules rules_of(const std::string& bans, const std::string& more = "") {
  return BanRules(parse_good(kBase + ("bans: { " + bans + " }\n") + more));
}

IpAddress ip(const char* text) {
  return *IpAddress::parse(text);
}

TEST(BanEvents, StrikeTheirOwnRulesOnTheirOwnRoute) {
  const BanRules rules =
      rules_of("rules: [{ when: { event: access_denied, route: bait, count: 1 } }]");
  BanTracker tracker(kKey);
  const IpAddress source = ip("192.0.2.1");
  EXPECT_FALSE(tracker.strike(rules, BanEvent::auth_failure, 0, source, kSecond));
  EXPECT_FALSE(tracker.strike(rules, BanEvent::access_denied, 1, source, kSecond));
  EXPECT_FALSE(tracker.strike(rules, BanEvent::access_denied, std::nullopt, source, kSecond));
  EXPECT_FALSE(tracker.strike(rules, 0, source, kSecond));
  EXPECT_TRUE(tracker.strike(rules, BanEvent::access_denied, 0, source, kSecond));
}

TEST(BanEvents, WithoutARouteAnywhere) {
  const BanRules rules = rules_of("rules: [{ when: { event: access_denied, count: 2 } }]");
  BanTracker tracker(kKey);
  EXPECT_FALSE(tracker.strike(rules, BanEvent::access_denied, 1, ip("192.0.2.1"), kSecond));
  EXPECT_TRUE(
      tracker.strike(rules, BanEvent::access_denied, std::nullopt, ip("192.0.2.1"), kSecond));
}

TEST(BanEvents, Ipv6ByPrefix) {
  const BanRules rules = rules_of(
      "rules: [{ when: { event: http2_abuse, count: 2 } },"
      " { when: { event: auth_failure, count: 1 }, ipv6_prefix: 56 }]");
  BanTracker tracker(kKey);
  EXPECT_FALSE(tracker.strike(rules, BanEvent::http2_abuse, {}, ip("2001:db8::1"), kSecond));
  const auto ban = tracker.strike(rules, BanEvent::http2_abuse, {}, ip("2001:db8::2"), kSecond);
  ASSERT_TRUE(ban);
  EXPECT_EQ(ban->source.to_string(), "2001:db8::/64");
  const auto wide =
      tracker.strike(rules, BanEvent::auth_failure, {}, ip("2001:db8:0:12ab::1"), kSecond);
  ASSERT_TRUE(wide);
  EXPECT_EQ(wide->source.to_string(), "2001:db8:0:1200::/56");
}

TEST(BanEvents, NeverUpstreamsNorRedisNorProtected) {
  const BanRules rules = rules_of("rules: [{ when: { event: access_denied, count: 1 } }]",
                                  "protect: { from: [{ cidr: 10.9.0.0/24 }] }\n"
                                  "cluster: { redis: { url: \"redis://192.0.2.6:6379\" } }\n");
  BanTracker tracker(kKey);
  for (const char* source : {"192.0.2.77", "192.0.2.6", "10.9.0.7", "127.0.0.1", "::1"})
    EXPECT_FALSE(tracker.strike(rules, BanEvent::access_denied, {}, ip(source), kSecond)) << source;
}

// A flood of sources bans no faster than the policy says; who was passed over goes on counting.
TEST(BanEvents, NoFasterThanTheRate) {
  const BanRules rules =
      rules_of("rate: 10/s, rules: [{ when: { event: access_denied, count: 1 } }]");
  BanTracker tracker(kKey);
  std::uint64_t bans = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const auto source = IpAddress::v4(0x0a000000U + i);
    bans += tracker.strike(rules, BanEvent::access_denied, {}, source, kSecond).has_value();
  }
  EXPECT_EQ(bans, 10u);
  EXPECT_EQ(tracker.refused(), 990u);
  EXPECT_TRUE(tracker.strike(rules, BanEvent::access_denied, {}, ip("10.0.3.231"), 2 * kSecond));
}

TEST(BanEvents, AuditIsNotHeldToTheRate) {
  const BanRules rules =
      rules_of("rate: 1/h, rules: [{ when: { event: access_denied, count: 1 }, mode: audit }]");
  BanTracker tracker(kKey);
  for (std::uint32_t i = 0; i < 10; ++i) {
    const auto source = IpAddress::v4(0x0a000000U + i);
    EXPECT_TRUE(tracker.strike(rules, BanEvent::access_denied, {}, source, kSecond));
  }
}

TEST(BanEvents, ARouteBanNamesItsUpstreamAndNeedsNoKernel) {
  const std::string bans =
      "rules: [{ when: { limit: a, count: 1 }, action: route, upstream: trap }]";
  EXPECT_FALSE(parse_good(kBase + ("bans: { " + bans + " }\n")).needs_kernel());
  const BanRules rules = rules_of(bans);
  BanTracker tracker(kKey);
  const auto ban = tracker.strike(rules, 0, ip("10.0.0.1"), kSecond);
  ASSERT_TRUE(ban);
  EXPECT_EQ(ban->action, BanAction::route);
  EXPECT_EQ(rules.find_upstream(ban->upstream), 1u);
  EXPECT_EQ(rules.find_upstream(upstream_id("api")), std::nullopt);  // no rule names it
}

std::vector<std::string> problems_of(const std::string& rule) {
  return shown(parse_text(kBase + ("bans: { rules: [" + rule + "] }\n")).diagnostics);
}

TEST(BanChecks, SayWhatIsMissingOrMeaningless) {
  EXPECT_THAT(problems_of("{ when: { count: 3 } }"), ElementsAre(HasSubstr("`limit` or `event`")));
  EXPECT_THAT(problems_of("{ when: { limit: a, event: access_denied } }"), testing::Not(IsEmpty()));
  EXPECT_THAT(problems_of("{ when: { event: access_denied, route: x } }"),
              ElementsAre(HasSubstr("there is no route `x`")));
  EXPECT_THAT(problems_of("{ when: { event: http2_abuse, route: bait } }"),
              ElementsAre(HasSubstr("belongs to a connection")));
  EXPECT_THAT(problems_of("{ when: { limit: a }, action: route }"),
              ElementsAre(HasSubstr("needs `upstream`")));
  EXPECT_THAT(problems_of("{ when: { limit: a }, upstream: trap }"),
              ElementsAre(HasSubstr("no meaning")));
}

TEST(DivertedSources, FindsWhomItNamesUntilTheEnd) {
  DivertedSources diverted(kKey);
  EXPECT_TRUE(diverted.empty());
  EXPECT_TRUE(diverted.add(*Prefix::parse("10.0.0.1"), 7, 10 * kSecond, kSecond, "why"));
  EXPECT_TRUE(diverted.add(*Prefix::parse("2001:db8::/64"), 8, 20 * kSecond, kSecond, "why"));
  EXPECT_EQ(diverted.find(ip("10.0.0.1"), 2 * kSecond), 7u);
  EXPECT_EQ(diverted.find(ip("10.0.0.2"), 2 * kSecond), std::nullopt);
  EXPECT_EQ(diverted.find(ip("2001:db8::9:9"), 2 * kSecond), 8u);
  EXPECT_EQ(diverted.find(ip("2001:db8:0:1::1"), 2 * kSecond), std::nullopt);
  EXPECT_EQ(diverted.find(ip("10.0.0.1"), 10 * kSecond), std::nullopt);
  EXPECT_EQ(diverted.list(15 * kSecond).size(), 1u);
  EXPECT_TRUE(diverted.remove(*Prefix::parse("2001:db8::/64")));
  EXPECT_EQ(diverted.find(ip("2001:db8::9:9"), 2 * kSecond), std::nullopt);
}

TEST(DivertedSources, RefusesWhenFullAndCounts) {
  DivertedSources diverted(kKey, 64);
  std::uint64_t added = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const IpAddress source = IpAddress::v4(0x0a000000U + i);
    added += diverted.add({source, 32}, i, 10 * kSecond, kSecond, "") ? 1 : 0;
  }
  EXPECT_EQ(added, 64u);
  EXPECT_EQ(diverted.refused(), 1000u - 64);
  EXPECT_TRUE(diverted.add(*Prefix::parse("10.9.9.9"), 1, 30 * kSecond, 11 * kSecond, ""));
}

}  // namespace
}  // namespace sluice::policy
