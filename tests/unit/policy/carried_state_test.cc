// What one gateway remembers, another one goes on with; what cannot be read is dropped whole.
#include "policy/carried_state.h"

#include <gtest/gtest.h>
#include <random>

#include "parsing.h"
#include "policy/limits.h"
#include "requests.h"

namespace sluice::policy {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kStart = 1000 * kSecond;
const HashKey kOne{1, 2};
const HashKey kOther{3, 4};

Clocks clocks(std::uint64_t monotonic_ns = kStart) {
  return {
      .boot = "this", .monotonic_ns = monotonic_ns, .wall_ns = 5'000 * std::int64_t{1'000'000'000}};
}

CarriedState carried(const CarriedState& state, const Clocks& then = clocks(),
                     const Clocks& now = clocks()) {
  auto out = deserialize_state(serialize(state, then), now);
  EXPECT_TRUE(out.has_value());
  return out.value_or(CarriedState{});
}

std::vector<Limit> limits_of(const std::string& text) {
  return parse_good("version: 1\nlimits: {" + text + "}\n").limits;
}

LimitKeys keys_of(const LimitHandle& limit, const char* client) {
  RequestView request;
  request.client = *IpAddress::parse(client);
  return limit.keys(request, 1);
}

TEST(CarriedState, RatesGoOnWhereTheyWere) {
  const auto limits = limits_of(" a: { rate: 1/h, burst: 3 }, b: { rate: 1/h, burst: 3 } ");
  LimitStore before(kOne);
  const auto old = before.resolve(limits);
  EXPECT_TRUE(old[0].admit(keys_of(old[0], "192.0.2.1"), kStart).allowed);
  EXPECT_TRUE(old[0].admit(keys_of(old[0], "192.0.2.1"), kStart).allowed);
  EXPECT_TRUE(old[1].admit(keys_of(old[1], "192.0.2.2"), kStart).allowed);
  CarriedState state;
  before.save(state, kStart);

  LimitStore after(kOther);
  after.take_over(carried(state));
  const auto next = after.resolve(limits);
  EXPECT_EQ(next[0].peek(keys_of(next[0], "192.0.2.1"), kStart).remaining, 0U);
  EXPECT_TRUE(next[0].admit(keys_of(next[0], "192.0.2.1"), kStart).allowed);
  EXPECT_FALSE(next[0].admit(keys_of(next[0], "192.0.2.1"), kStart).allowed);
  EXPECT_EQ(next[1].peek(keys_of(next[1], "192.0.2.2"), kStart).remaining, 1U);
  EXPECT_EQ(next[1].peek(keys_of(next[1], "192.0.2.1"), kStart).remaining, 2U);
}

TEST(CarriedState, AnotherLimitOfThatNameBeginsAnew) {
  LimitStore before(kOne);
  const auto old = before.resolve(limits_of(" a: { rate: 1/h, burst: 1 } "));
  EXPECT_TRUE(old[0].admit(keys_of(old[0], "192.0.2.1"), kStart).allowed);
  CarriedState state;
  before.save(state, kStart);
  for (const char* text :
       {" a: { rate: 2/h, burst: 1 } ", " a: { rate: 1/h, burst: 1, key: [client_ip, route] } ",
        " a: { rate: 1/h, burst: 1, ipv4_prefix: 24 } "}) {
    LimitStore after(kOther);
    after.take_over(carried(state));
    const auto next = after.resolve(limits_of(text));
    EXPECT_TRUE(next[0].admit(keys_of(next[0], "192.0.2.1"), kStart).allowed) << text;
  }
}

// Of a table that is half full, all find a place again.
TEST(CarriedState, ManyKeysFit) {
  constexpr std::uint64_t kKeys = 100'000;
  const GcraParameters gcra{kSecond, kSecond, 0};
  LimitTable before(gcra, 2 * kKeys);
  std::mt19937_64 random(7);
  std::vector<LimitKeys> keys;
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    keys.push_back({random(), random()});
    EXPECT_TRUE(before.admit(keys.back(), kStart).allowed);
  }
  const auto live = before.live_keys(kStart, kKeys);
  LimitTable after(gcra, 2 * kKeys);
  after.take_over(live, before.live_overflow(kStart));
  EXPECT_GE(after.live_keys(kStart, kKeys).size(), live.size() * 99 / 100);
  std::size_t refused = 0;
  for (const LimitKeys& key : keys)
    refused += after.admit(key, kStart).allowed ? 0 : 1;
  EXPECT_GE(refused, kKeys * 99 / 100);
}

TEST(CarriedState, BansGrowOn) {
  const BanRules rules(
      parse_good("version: 1\nlimits: { a: { rate: 1/s } }\nbans: { rules: [{ when: { limit: a, "
                 "count: 1 }, for: 10s, grow: 2, up_to: 1h }] }\n"));
  const IpAddress source = *IpAddress::parse("192.0.2.1");
  BanTracker before(kOne);
  ASSERT_TRUE(before.strike(rules, 0, source, kStart));
  CarriedState state;
  state.ban_key = before.hash_key();
  state.bans = before.records();

  BanTracker after(kOther);
  const CarriedState next = carried(state);
  after.take_over(next.ban_key, next.bans);
  const auto again = after.strike(rules, 0, source, kStart + 11 * kSecond);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->duration, Duration(20s));
  EXPECT_FALSE(BanTracker(kOther).records().size());
}

// The node was off for a minute, and its clock began anew.
TEST(CarriedState, TimesGoByTheWallClockOverABoot) {
  CarriedState state;
  state.diverted.push_back({.source = *Prefix::parse("192.0.2.1"),
                            .upstream = 7,
                            .until_ns = kStart + 100 * kSecond,
                            .reason = "bait"});
  state.diverted.push_back({.source = *Prefix::parse("2001:db8::/64"),
                            .upstream = kRefuseSource,
                            .until_ns = kStart + 50 * kSecond,
                            .reason = ""});
  Clocks later = clocks(80 * kSecond);
  later.boot = "next";
  later.wall_ns += 60 * std::int64_t{1'000'000'000};
  const CarriedState next = carried(state, clocks(), later);
  ASSERT_EQ(next.diverted.size(), 2U);
  EXPECT_EQ(next.diverted[0].until_ns, (80 + 40) * kSecond);
  EXPECT_EQ(next.diverted[0].reason, "bait");
  EXPECT_EQ(next.diverted[0].upstream, 7U);
  EXPECT_EQ(next.diverted[1].until_ns, 70 * kSecond);  // has passed
  EXPECT_EQ(next.diverted[1].source.to_string(), "2001:db8::/64");
}

TEST(CarriedState, NamesStandForWhatTheyDid) {
  CarriedState state;
  EXPECT_TRUE(state.is_empty());
  state.names = {
      {"shop",
       "api.shop.svc:http 0",
       {{*SocketAddress::parse("10.1.0.7:80"), 3, 1, "api.shop.svc"}}},
      {"web", "web.internal:80 4", {{*SocketAddress::parse("[2001:db8::7]:80"), 1, 0, ""}}}};
  EXPECT_FALSE(state.is_empty());
  EXPECT_EQ(carried(state).names, state.names);
}

TEST(CarriedState, IssuersKeysAreThoseThatWereSaid) {
  CarriedState state;
  state.keys = {{"https://idp.example/keys idp", R"({"keys":[]})"}, {"http://b.example/ b", ""}};
  EXPECT_FALSE(state.is_empty());
  EXPECT_EQ(carried(state).keys, state.keys);
}

TEST(CarriedState, WhatIsCutOrOfAnotherVersionIsRefusedWhole) {
  CarriedState state;
  state.rates.push_back(
      {.limit = "a", .identity = 5, .keys = {{1, kStart}, {2, kStart}}, .overflow = {{3, kStart}}});
  state.bans.resize(2);
  state.diverted.push_back(
      {.source = *Prefix::parse("192.0.2.1"), .upstream = 0, .until_ns = kStart, .reason = "x"});
  state.names.push_back({"a", "b", {{*SocketAddress::parse("192.0.2.1:80"), 1, 0, "c"}}});
  state.keys.push_back({"a", "b"});
  const std::string good = serialize(state, clocks());
  ASSERT_TRUE(deserialize_state(good, clocks()));
  for (std::size_t size = 0; size < good.size(); ++size)
    ASSERT_FALSE(deserialize_state(good.substr(0, size), clocks())) << size;
  EXPECT_FALSE(deserialize_state(good + "x", clocks()));
  std::string other = good;
  ++other[4 + 12];  // behind the magic's length and text
  const auto refused = deserialize_state(other, clocks());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), "of version 4, and this is 3");
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {  // any bytes: an answer, and no more memory than they are
    std::string broken = good;
    broken[random() % broken.size()] = static_cast<char>(random());
    (void)deserialize_state(broken, clocks());
  }
}

}  // namespace
}  // namespace sluice::policy
