#include "policy/limits.h"

#include <algorithm>
#include <atomic>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <thread>

namespace sluice::policy {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

Limit limit_of(std::uint64_t count, Duration period, std::uint64_t burst) {
  Limit limit;
  limit.name = "a";
  limit.rate_count = count;
  limit.rate_period = period;
  limit.burst = burst;
  return limit;
}

LimitTable table_of(std::uint64_t per_second, std::uint64_t burst, std::size_t entries = 1024) {
  return LimitTable(GcraParameters::of(limit_of(per_second, 1s, burst)), entries);
}

TEST(Gcra, BurstThenRate) {
  LimitTable table = table_of(10, 3);
  const std::uint64_t start = 5 * kSecond;
  EXPECT_EQ(table.admit({1, 0}, start).remaining, 2u);
  EXPECT_EQ(table.admit({1, 0}, start).remaining, 1u);
  const LimitVerdict last = table.admit({1, 0}, start);
  EXPECT_TRUE(last.allowed);
  EXPECT_EQ(last.remaining, 0u);
  EXPECT_EQ(last.reset_ns, 3 * kSecond / 10);
  const LimitVerdict refused = table.admit({1, 0}, start);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after_ns, kSecond / 10);
  EXPECT_EQ(refused.reset_ns, 3 * kSecond / 10);
  EXPECT_FALSE(table.admit({1, 0}, start + refused.retry_after_ns - 1).allowed);
  EXPECT_TRUE(table.admit({1, 0}, start + refused.retry_after_ns).allowed);
  EXPECT_EQ(table.admit({1, 0}, start + 100 * kSecond).remaining, 2u);
}

// PEERS: a limiter that counts what it refuses never lets a busy client in again.
TEST(Gcra, AClientThatKeepsTryingGetsItsRate) {
  LimitTable table = table_of(10, 1);
  int allowed = 0;
  for (int i = 0; i < 10'000; ++i) {  // 1000/s for ten seconds
    allowed += table.admit({1, 0}, kSecond + static_cast<std::uint64_t>(i) * 1'000'000).allowed;
  }
  EXPECT_EQ(allowed, 100);
}

TEST(Gcra, RoundsTheIntervalUp) {
  const GcraParameters third = GcraParameters::of(limit_of(3, 1s, 1));
  EXPECT_EQ(third.emission_interval, 333'333'334u);
  EXPECT_EQ(GcraParameters::of(limit_of(3, 1s, 0)).tolerance, 3 * 333'333'334u);
}

TEST(LimitTable, KeysAreApart) {
  LimitTable table = table_of(1, 1);
  for (std::uint64_t key = 1; key <= 500; ++key) {
    const std::uint64_t hash = key * 0x9e3779b97f4a7c15;
    EXPECT_TRUE(table.admit({hash, 0}, kSecond).allowed) << key;
    EXPECT_FALSE(table.admit({hash, 0}, kSecond).allowed) << key;
  }
}

TEST(LimitTable, AFloodOfKeysSharesTheOverflowAndEvictsNobody) {
  LimitTable table = table_of(1, 2, 64);
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> first;
  for (int i = 0; i < 20; ++i) {
    first.push_back(random());
    table.admit({first.back(), 7}, kSecond);
    table.admit({first.back(), 7}, kSecond);
  }
  int flood = 0;
  for (int i = 0; i < 10'000; ++i)
    flood += table.admit({random(), 7}, kSecond).allowed;
  const LimitTableStats stats = table.stats(kSecond);
  EXPECT_LE(static_cast<std::uint64_t>(flood),
            stats.entries + 2);  // each entry once, the overflow cell twice
  EXPECT_GT(stats.overflow, 9'000u);
  for (const std::uint64_t key : first)
    EXPECT_FALSE(table.admit({key, 7}, kSecond).allowed);
  EXPECT_TRUE(table.admit({random(), 8}, kSecond).allowed);        // another network
  EXPECT_TRUE(table.admit({random(), 7}, 100 * kSecond).allowed);  // room again
  EXPECT_LE(table.stats(100 * kSecond).live, 1u);
}

// As many keys as `max_keys` of them have their own count; those that do not are few even where the
// table has no place more than that.
TEST(LimitTable, AsManyKeysAsThereShouldBeFindAPlace) {
  for (const auto& [entries, most] :
       {std::pair{1'000'000U, 0.0}, {65'536U, 0.0}, {7U << 14, 0.07}}) {
    LimitTable table = table_of(1, 1, entries);
    std::mt19937_64 random(5);
    for (std::size_t i = 0; i < entries; ++i)
      table.admit({random(), random()}, kSecond);
    const LimitTableStats stats = table.stats(kSecond);
    EXPECT_LE(static_cast<double>(stats.overflow), most * entries) << entries;
    // And with the next process.
    LimitTable next = table_of(1, 1, entries);
    next.take_over(table.live_keys(kSecond, entries), {});
    EXPECT_GE(static_cast<double>(next.live_keys(kSecond, entries).size()),
              (0.999 - 2 * most) * entries)
        << entries;
  }
}

// Whatever the arrival times: never more than burst + rate * t in any window of length t.
TEST(LimitTable, NeverMoreThanBurstPlusRateInAnyWindow) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t rate = 1 + random() % 1000;
    const std::uint64_t burst = 1 + random() % 50;
    LimitTable table = table_of(rate, burst);
    std::vector<std::uint64_t> admitted;
    std::uint64_t now = 1 + random() % kSecond;
    for (int i = 0; i < 3000; ++i) {
      now += random() % (2 * kSecond / rate + 1) * (random() % 4 == 0);
      if (table.admit({42, 0}, now).allowed) admitted.push_back(now);
    }
    for (std::size_t i = 0; i < admitted.size(); ++i) {
      for (std::size_t j = i; j < admitted.size(); j += 7) {
        const double window = static_cast<double>(admitted[j] - admitted[i]) / 1e9;
        ASSERT_LE(static_cast<double>(j - i + 1),
                  static_cast<double>(burst) + window * static_cast<double>(rate) + 1e-6);
      }
    }
  }
}

TEST(LimitTable, WhatWasEstimatedIsSettledByWhatItWas) {
  LimitTable table = table_of(100, 1000);
  EXPECT_EQ(table.admit({1, 0}, kSecond, 900).remaining, 100u);
  EXPECT_FALSE(table.admit({1, 0}, kSecond, 200).allowed);
  table.settle({1, 0}, kSecond, 900, 30);
  EXPECT_EQ(table.admit({1, 0}, kSecond, 200).remaining, 770u);
  // More than was left: the next ones wait until it has come back.
  table.settle({1, 0}, kSecond, 200, 5000);
  const LimitVerdict refused = table.admit({1, 0}, kSecond, 1);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after_ns, (30 + 5000 + 1 - 1000) * kSecond / 100);
}

// What a rate has given back by itself meanwhile is not given back again.
TEST(LimitTable, NothingIsGivenBackTwice) {
  LimitTable table = table_of(100, 1000);
  EXPECT_TRUE(table.admit({1, 0}, kSecond, 1000).allowed);
  table.settle({1, 0}, 6 * kSecond, 1000, 0);
  EXPECT_EQ(table.admit({1, 0}, 6 * kSecond, 1).remaining, 999u);
  table.settle({2, 0}, 6 * kSecond, 1000, 0);  // unknown: nothing happens
  EXPECT_EQ(table.admit({2, 0}, 6 * kSecond, 1).remaining, 999u);
}

TEST(Gcra, ASettlementWithoutMeasureOverflowsNothing) {
  const GcraParameters slow = GcraParameters::of(limit_of(1, 24h, 1));
  const std::uint64_t year = 366 * 24 * 3600 * kSecond;
  EXPECT_LE(gcra_settle(slow, kSecond, kSecond, 0, ~std::uint64_t{0}), kSecond + year);
  EXPECT_EQ(gcra_settle(slow, 5 * kSecond, kSecond, ~std::uint64_t{0}, 0), kSecond);
}

struct Admitted {
  std::uint64_t key;
  std::uint64_t time;
};

// Several threads push on one clock and hammer the same few keys, which change every millisecond;
// the table is so small that entries change hands all the time. The bound holds per key, whatever
// the order in which times are used.
TEST(LimitTable, HoldsForManyThreadsWhileEntriesChangeHands) {
  constexpr int kThreads = 4;
  constexpr std::uint64_t kKeys = 97;
  constexpr std::uint64_t kRate = 1000;
  constexpr std::uint64_t kBurst = 3;
  LimitTable table = table_of(kRate, kBurst, 56);
  std::atomic<std::uint64_t> clock{kSecond};
  std::vector<std::vector<Admitted>> per_thread(kThreads);
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<std::uint64_t>(t));
      for (int i = 0; i < 200'000; ++i) {
        const std::uint64_t now = clock.fetch_add(random() % 20'000);
        const std::uint64_t key = 1 + (now / 1'000'000 + random() % 3) % kKeys;
        const bool allowed = table.admit({key * 0x9e3779b97f4a7c15, 0}, now).allowed;
        if (allowed) per_thread[static_cast<std::size_t>(t)].push_back({key, now});
      }
    });
  }
  threads.clear();
  // A thread that the machine held up comes with an old time, for which every entry is live: it then
  // shares the overflow cell, which allows as much again.
  const std::uint64_t overflow = table.stats(0).overflow;
  ASSERT_LT(overflow, 8'000u);
  const double shares = overflow > 0 ? 2 : 1;
  std::map<std::uint64_t, std::vector<std::uint64_t>> by_key;
  for (const auto& admitted : per_thread) {
    for (const Admitted& one : admitted)
      by_key[one.key].push_back(one.time);
  }
  ASSERT_EQ(by_key.size(), kKeys);
  for (auto& [key, times] : by_key) {
    std::ranges::sort(times);
    for (std::size_t i = 0; i < times.size(); ++i) {
      for (std::size_t j = i; j < std::min(times.size(), i + 100); ++j) {
        const double window = static_cast<double>(times[j] - times[i]) / 1e9;
        ASSERT_LE(static_cast<double>(j - i + 1), shares * (kBurst + window * kRate) + 1e-6) << key;
      }
    }
  }
}

// Two threads meet before each key and then bring it for the first time together: it must not get
// two entries.
TEST(LimitTable, ANewKeySeenByTwoThreadsAtOnceIsOneKey) {
  constexpr std::uint64_t kKeys = 50'000;
  LimitTable table = table_of(1, 1, 4 * kKeys);
  std::vector<std::atomic<int>> arrived(kKeys);
  std::vector<std::atomic<int>> allowed(kKeys);
  const auto run = [&] {
    for (std::uint64_t i = 0; i < kKeys; ++i) {
      ++arrived[i];
      for (int spins = 0; arrived[i] < 2; ++spins) {
        if (spins > 1000) std::this_thread::yield();
      }
      allowed[i] += table.admit({(i + 1) * 0x9e3779b97f4a7c15, 0}, kSecond).allowed;
    }
  };
  std::jthread other(run);
  run();
  other.join();
  ASSERT_EQ(table.stats(kSecond).overflow, 0u);
  for (std::uint64_t i = 0; i < kKeys; ++i)
    ASSERT_EQ(allowed[i], 1) << i;
}

const HashKey kKey{1, 2};

LimitVerdict admit(const LimitHandle& limit, const IpAddress& client, std::uint64_t route,
                   std::uint64_t now) {
  RequestView view;
  view.client = client;
  return limit.admit(limit.keys(view, route), now);
}

TEST(LimitHandle, BuildsKeysFromClientAndRoute) {
  Limit limit = limit_of(1, 1s, 1);
  LimitStore store(kKey);
  const LimitHandle by_client = store.resolve({limit})[0];
  const IpAddress v4 = *IpAddress::parse("192.0.2.1");
  EXPECT_TRUE(admit(by_client, v4, 1, kSecond).allowed);
  EXPECT_FALSE(admit(by_client, v4, 2, kSecond).allowed);
  EXPECT_TRUE(admit(by_client, *IpAddress::parse("192.0.2.2"), 1, kSecond).allowed);
  // One /64 is one client.
  EXPECT_TRUE(admit(by_client, *IpAddress::parse("2001:db8::1"), 1, kSecond).allowed);
  EXPECT_FALSE(admit(by_client, *IpAddress::parse("2001:db8::2:3:4:5"), 1, kSecond).allowed);
  EXPECT_TRUE(admit(by_client, *IpAddress::parse("2001:db8:0:1::1"), 1, kSecond).allowed);

  limit.name = "b";
  limit.key = {LimitKey::client_ip, LimitKey::route};
  const LimitHandle by_both = store.resolve({limit})[0];
  EXPECT_TRUE(admit(by_both, v4, 1, kSecond).allowed);
  EXPECT_TRUE(admit(by_both, v4, 2, kSecond).allowed);
  EXPECT_FALSE(admit(by_both, v4, 1, kSecond).allowed);

  limit.name = "c";
  limit.key = {LimitKey::route};
  const LimitHandle by_route = store.resolve({limit})[0];
  EXPECT_TRUE(admit(by_route, v4, 1, kSecond).allowed);
  EXPECT_FALSE(admit(by_route, *IpAddress::parse("::1"), 1, kSecond).allowed);
  EXPECT_EQ(by_route.limit().burst, 1u);
}

TEST(LimitStore, KeepsStateOverAReloadUnlessTheLimitChanged) {
  Limit limit = limit_of(1, 1s, 1);
  const IpAddress client = *IpAddress::parse("192.0.2.1");
  LimitStore store(kKey);
  const LimitHandle before = store.resolve({limit})[0];
  EXPECT_TRUE(admit(before, client, 0, kSecond).allowed);
  limit.where = {"moved.yaml", 9, 9};
  Limit other = limit_of(5, 1s, 5);
  other.name = "other";
  EXPECT_FALSE(admit(store.resolve({other, limit})[1], client, 0, kSecond).allowed);
  limit.burst = 2;
  EXPECT_TRUE(admit(store.resolve({limit})[0], client, 0, kSecond).allowed);
  EXPECT_FALSE(admit(before, client, 0, kSecond).allowed);  // an old snapshot's handle goes on
  store.resolve({});
  EXPECT_TRUE(admit(store.resolve({limit_of(1, 1s, 1)})[0], client, 0, kSecond).allowed);
}

}  // namespace
}  // namespace sluice::policy
