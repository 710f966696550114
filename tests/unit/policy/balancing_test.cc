#include "policy/balancing.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <gmock/gmock.h>
#include <map>
#include <numeric>
#include <random>
#include <string>

namespace sluice::policy {
namespace {

using testing::ElementsAre;

constexpr LbPolicy kAll[] = {LbPolicy::round_robin, LbPolicy::least_request, LbPolicy::random,
                             LbPolicy::peak_ewma, LbPolicy::maglev};

// Endpoints of an upstream, and one worker that picks among them.
struct Pool {
  explicit Pool(std::vector<EndpointView> views, CandidateOptions options = {})
      : endpoints(std::move(views)), active(endpoints.size(), 0) {
    candidates.build(endpoints, options);
    for (std::uint32_t priority = 0; priority <= 2; ++priority) {
      std::vector<MaglevTable::Entry> entries;
      for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
        if (endpoints[i].priority == priority)
          entries.push_back(
              {names.emplace_back("10.0.0." + std::to_string(i) + ":80"), endpoints[i].weight, i});
      }
      tables.emplace_back(entries);
    }
  }

  std::optional<std::uint32_t> pick(LbPolicy policy, std::uint64_t random,
                                    const std::vector<std::uint32_t>& tried = {}) {
    return policy::pick(
        candidates,
        {.policy = policy, .tried = tried, .random = random, .hash = random, .tables = tables},
        state, [this](std::uint32_t i) { return static_cast<double>(active[i]); });
  }

  // How often each was picked.
  std::vector<int> count(LbPolicy policy, int picks, std::uint64_t seed = 1) {
    std::mt19937_64 random(seed);
    std::vector<int> counts(endpoints.size());
    for (int i = 0; i < picks; ++i)
      ++counts[*pick(policy, random())];
    return counts;
  }

  std::vector<EndpointView> endpoints;
  std::vector<std::uint32_t> active;
  std::deque<std::string> names;
  Candidates candidates;
  std::vector<MaglevTable> tables;
  BalancerState state;
};

EndpointView of_weight(std::uint32_t weight) {
  return {.weight = weight};
}
EndpointView down(std::uint32_t priority = 0) {
  return {.priority = priority, .available = false};
}
EndpointView at_priority(std::uint32_t priority) {
  return {.priority = priority};
}

TEST(RoundRobin, IsExactInEachRoundOfTurns) {
  for (const std::vector<std::uint32_t>& weights :
       {std::vector<std::uint32_t>{5, 1, 1}, {100, 1}, {3, 7, 11, 13}, {50, 20, 30}, {2, 1}}) {
    std::vector<EndpointView> views;
    std::ranges::transform(weights, std::back_inserter(views), of_weight);
    Pool pool(views);
    std::uint32_t unit = 0;
    std::uint32_t total = 0;
    for (const std::uint32_t weight : weights) {
      unit = std::gcd(unit, weight);
      total += weight;
    }
    for (int round = 0; round < 3; ++round) {
      std::vector<std::uint32_t> counts(weights.size());
      for (std::uint32_t i = 0; i < total / unit; ++i)
        ++counts[*pool.pick(LbPolicy::round_robin, 0)];
      for (std::size_t i = 0; i < weights.size(); ++i)
        EXPECT_EQ(counts[i], weights[i] / unit) << "endpoint " << i << ", round " << round;
    }
  }
}

// No endpoint waits much longer for its turn than its share says, nor gets it in bursts.
TEST(RoundRobin, SpreadsTurnsEvenly) {
  Pool pool({of_weight(60), of_weight(25), of_weight(10), of_weight(5)});
  const std::vector<double> share{0.60, 0.25, 0.10, 0.05};
  std::vector<int> last(4, 0);
  for (int i = 1; i <= 2000; ++i) {
    const std::uint32_t picked = *pool.pick(LbPolicy::round_robin, 0);
    if (last[picked] > 0) {
      EXPECT_LE(i - last[picked], 3 / share[picked]) << picked;
    }
    last[picked] = i;
  }
}

TEST(RoundRobin, GoesOnOverAChangeOfWeights) {
  Pool pool({of_weight(7), of_weight(3)});
  for (int i = 0; i < 5; ++i)
    pool.pick(LbPolicy::round_robin, 0);
  pool.endpoints[1].weight = 1;
  pool.candidates.build(pool.endpoints, {});
  std::vector<int> counts(2);
  for (int i = 0; i < 8; ++i)
    ++counts[*pool.pick(LbPolicy::round_robin, 0)];
  EXPECT_THAT(counts, ElementsAre(7, 1));
}

TEST(RoundRobin, SkipsUnavailableAndTried) {
  Pool pool({of_weight(1), down(), of_weight(1)});
  for (int i = 0; i < 10; ++i) {
    EXPECT_NE(pool.pick(LbPolicy::round_robin, 0), 1u);
    EXPECT_EQ(pool.pick(LbPolicy::round_robin, 0, {0}), 2u);
  }
  EXPECT_FALSE(pool.pick(LbPolicy::round_robin, 0, {0, 2}));
}

TEST(Pick, PanicPicksAmongAll) {
  for (const LbPolicy policy : kAll) {
    Pool pool({down(), down()});
    EXPECT_TRUE(pool.pick(policy, 7));
    EXPECT_EQ(pool.pick(policy, 7, {0}), 1u);
    EXPECT_FALSE(pool.pick(policy, 7, {0, 1}));
    EXPECT_FALSE(Pool({}).pick(policy, 7));
  }
}

TEST(Pick, WeightZeroIsNeverPicked) {
  for (const LbPolicy policy : kAll) {
    Pool pool({of_weight(0), of_weight(1)});
    for (const std::uint64_t random : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{77}})
      EXPECT_EQ(pool.pick(policy, random), 1u);
  }
}

TEST(Pick, EveryPolicyFollowsTheWeights) {
  for (const LbPolicy policy : kAll) {
    if (policy == LbPolicy::least_request || policy == LbPolicy::peak_ewma) continue;
    SCOPED_TRACE(static_cast<int>(policy));
    const auto counts = Pool({of_weight(1), of_weight(3), of_weight(6)}).count(policy, 100'000);
    EXPECT_NEAR(counts[0], 10'000, 500);
    EXPECT_NEAR(counts[1], 30'000, 800);
    EXPECT_NEAR(counts[2], 60'000, 800);
  }
}

TEST(LeastRequest, PrefersTheIdlerOfTwo) {
  Pool pool({of_weight(1), of_weight(1)});
  pool.active = {5, 4};
  EXPECT_THAT(pool.count(LbPolicy::least_request, 1000), ElementsAre(0, 1000));
}

TEST(LeastRequest, IdleEndpointsShareByWeight) {
  const auto counts = Pool({of_weight(1), of_weight(3)}).count(LbPolicy::least_request, 100'000);
  EXPECT_NEAR(counts[1], 75'000, 800);
}

TEST(LeastRequest, DrawsAnyTwoAlike) {
  // The busiest is never picked, so the rest show which pairs were drawn.
  Pool pool(std::vector<EndpointView>(5));
  pool.active = {1, 0, 0, 0, 0};
  const auto counts = pool.count(LbPolicy::least_request, 100'000);
  EXPECT_EQ(counts[0], 0);
  for (std::size_t i = 1; i < 5; ++i)
    EXPECT_NEAR(counts[i], 25'000, 800);
}

TEST(LeastRequest, ASlowEndpointGetsLittle) {
  // Requests on endpoint 0 take ten times as long as on the others.
  Pool pool(std::vector<EndpointView>(4));
  std::mt19937_64 random(4);
  std::multimap<int, std::uint32_t> ends;
  std::vector<int> count(4);
  for (int now = 0; now < 20'000; ++now) {
    while (!ends.empty() && ends.begin()->first <= now) {
      --pool.active[ends.begin()->second];
      ends.erase(ends.begin());
    }
    const std::uint32_t index = *pool.pick(LbPolicy::least_request, random());
    ++count[index];
    ++pool.active[index];
    ends.emplace(now + (index == 0 ? 200 : 20), index);
  }
  EXPECT_LT(count[0] * 3, count[1]);
}

TEST(PeakEwma, RisesAtOnceAndFallsSlowly) {
  PeakEwma known;
  known.observe(1e6, 1'000'000'000);
  known.observe(50e6, 1'001'000'000);
  EXPECT_EQ(known.latency, 50e6);
  known.observe(1e6, 1'002'000'000);
  EXPECT_GT(known.latency, 49e6);
  // After one time constant, 1/e of the peak is left.
  known.observe(1e6, 11'002'000'000);
  EXPECT_NEAR(known.latency, 1e6 + 49e6 * std::exp(-1), 0.5e6);
}

TEST(PeakEwma, CostsMoreForEachActiveRequestAndFadesWhileNobodyAsks) {
  PeakEwma known;
  known.observe(2e6, 1'000'000'000);
  EXPECT_NEAR(known.cost(3, 1'000'000'000), 8e6, 1);
  EXPECT_LT(known.cost(3, 100'000'000'000), 1e3);
}

TEST(PeakEwma, OneRequestFindsOutAboutAnUnknownEndpoint) {
  EXPECT_EQ(PeakEwma{}.cost(0, 5), 0);
  PeakEwma slow;
  slow.observe(10e9, 1);
  EXPECT_GT(PeakEwma{}.cost(1, 5), slow.cost(1, 5));
}

// --- priorities, panic, slow start

TEST(Priorities, TheFirstLevelTakesAllWhileItCan) {
  // 3 of 4 are available: 1.4 × 75 % is more than enough.
  Pool pool({of_weight(1), of_weight(1), of_weight(1), down(), at_priority(1)});
  for (const LbPolicy policy : kAll)
    EXPECT_EQ(pool.count(policy, 1000)[4], 0);
}

TEST(Priorities, WhatALevelCannotTakeGoesToTheNext) {
  // 1 of 4: 1.4 × 25 % = 35 %, the other 65 % go on.
  Pool pool({of_weight(1), down(), down(), down(), at_priority(1), at_priority(1)});
  for (const LbPolicy policy : kAll) {
    SCOPED_TRACE(static_cast<int>(policy));
    const auto counts = pool.count(policy, 100'000);
    EXPECT_NEAR(counts[0], 35'000, 1'000);
    EXPECT_NEAR(counts[4] + counts[5], 65'000, 1'000);
  }
}

TEST(Priorities, FailOverAndBack) {
  for (const LbPolicy policy : kAll) {
    EXPECT_THAT(Pool({down(), down(1), at_priority(2)}).count(policy, 100), ElementsAre(0, 0, 100));
    EXPECT_THAT(Pool({down(), at_priority(1), at_priority(2)}).count(policy, 100),
                ElementsAre(0, 100, 0));
    EXPECT_THAT(Pool({of_weight(1), at_priority(1), at_priority(2)}).count(policy, 100),
                ElementsAre(100, 0, 0));
  }
}

TEST(Priorities, ARetryLeavesItsLevelRatherThanRepeat) {
  Pool pool({of_weight(1), at_priority(1)});
  for (const LbPolicy policy : kAll)
    EXPECT_EQ(pool.pick(policy, 7, {0}), 1u);
}

TEST(Panic, BelowTheThresholdAllAreUsed) {
  const std::vector<EndpointView> three{of_weight(1), down(), down()};
  EXPECT_EQ(Pool(three, {.panic_percent = 0}).count(LbPolicy::random, 1000)[1], 0);
  EXPECT_EQ(Pool(three, {.panic_percent = 33}).count(LbPolicy::random, 1000)[1], 0);
  EXPECT_GT(Pool(three, {.panic_percent = 34}).count(LbPolicy::random, 1000)[1], 200);
}

TEST(Panic, NotWhileOtherLevelsCanTakeTheLoad) {
  Pool pool({of_weight(1), down(), down(), at_priority(1)}, {.panic_percent = 90});
  EXPECT_THAT(pool.count(LbPolicy::random, 1000),
              ElementsAre(testing::Gt(0), 0, 0, testing::Gt(0)));
}

TEST(SlowStart, AShareThatGrows) {
  const auto share = [](Duration since) {
    Pool pool({of_weight(1), {.usable_for = since}}, {.slow_start = 10s});
    EXPECT_EQ(pool.candidates.warming(), since < 10s);
    return pool.count(LbPolicy::random, 110'000)[1] / 110'000.0;
  };
  EXPECT_NEAR(share(0s), 10.0 / 110, 0.005);
  EXPECT_NEAR(share(5s), 50.0 / 150, 0.005);
  EXPECT_NEAR(share(10s), 0.5, 0.005);
}

TEST(SlowStart, AnEndpointThatComesInAMomentIsNoDivisionByZero) {
  for (const Duration slow_start : {Duration(0s), Duration(10s)}) {
    Pool pool({of_weight(1), {.usable_for = -1ms}}, {.slow_start = slow_start});
    EXPECT_TRUE(pool.pick(LbPolicy::random, 7));
  }
}

// --- Maglev

struct Backends {
  explicit Backends(const std::vector<int>& ids, std::uint32_t weight_of_first = 1) {
    for (const int id : ids)
      names.push_back("10.0.0." + std::to_string(id) + ":8080");
    std::vector<MaglevTable::Entry> entries;
    for (std::uint32_t i = 0; i < names.size(); ++i)
      entries.push_back({names[i], i == 0 ? weight_of_first : 1, i});
    table.emplace(entries);
  }
  std::string of(std::uint64_t hash) const {
    return names[*table->find(hash, [](std::uint32_t) { return true; })];
  }
  std::vector<std::string> names;
  std::optional<MaglevTable> table;
};

std::vector<int> upto(int count) {
  std::vector<int> ids(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i)
    ids[static_cast<std::size_t>(i)] = i;
  return ids;
}

// Share of values that move between two tables.
double moved(const Backends& before, const Backends& after) {
  int count = 0;
  constexpr int kValues = 20'000;
  for (int i = 0; i < kValues; ++i) {
    const auto hash = balancing_hash("user-" + std::to_string(i));
    count += before.of(hash) != after.of(hash);
  }
  return count / static_cast<double>(kValues);
}

TEST(Maglev, SharesAreEven) {
  const Backends backends(upto(50));
  std::map<std::string, int> counts;
  for (std::uint32_t slot = 0; slot < MaglevTable::kSize; ++slot)
    ++counts[backends.of(slot)];
  for (const auto& [name, count] : counts)
    EXPECT_NEAR(count, MaglevTable::kSize / 50.0, 2) << name;
}

TEST(Maglev, SharesFollowTheWeights) {
  const Backends backends(upto(5), 4);
  int first = 0;
  for (std::uint32_t slot = 0; slot < MaglevTable::kSize; ++slot)
    first += backends.of(slot) == backends.names[0];
  EXPECT_NEAR(first, MaglevTable::kSize / 2.0, 10);
}

TEST(Maglev, OneEndpointLessMovesLittleMoreThanItsOwnValues) {
  auto without = upto(50);
  without.erase(without.begin() + 20);
  // A fiftieth must move; the paper's tables move a few percent beside.
  EXPECT_LT(moved(Backends(upto(50)), Backends(without)), 0.06);
}

TEST(Maglev, OneEndpointMoreMovesLittleMoreThanItsShare) {
  EXPECT_LT(moved(Backends(upto(50)), Backends(upto(51))), 0.06);
}

TEST(Maglev, TheOrderOfEndpointsMeansNothing) {
  auto reversed = upto(50);
  std::ranges::reverse(reversed);
  EXPECT_EQ(moved(Backends(upto(50)), Backends(reversed)), 0);
}

TEST(Maglev, AnUnavailableEndpointMovesOnlyItsOwnValues) {
  const Backends backends(upto(20));
  std::map<std::uint32_t, int> heirs;
  for (int i = 0; i < 20'000; ++i) {
    const auto hash = balancing_hash("user-" + std::to_string(i));
    const auto before = *backends.table->find(hash, [](std::uint32_t) { return true; });
    const auto after = *backends.table->find(hash, [](std::uint32_t index) { return index != 7; });
    if (before != 7) {
      EXPECT_EQ(before, after);
    } else {
      ++heirs[after];
    }
  }
  EXPECT_GT(heirs.size(), 15u);  // spread, not all to one neighbour
  EXPECT_FALSE(heirs.contains(7));
}

TEST(Maglev, NobodyAllowedIsNobody) {
  const Backends backends(upto(3));
  EXPECT_FALSE(backends.table->find(1, [](std::uint32_t) { return false; }));
  EXPECT_FALSE(MaglevTable({}).find(1, [](std::uint32_t) { return true; }));
}

TEST(PickWeighted, DrawsByWeight) {
  const std::vector<std::uint32_t> weights{90, 0, 10};
  std::mt19937_64 random(5);
  std::vector<int> count(3);
  for (int i = 0; i < 100'000; ++i)
    ++count[*pick_weighted(weights, random())];
  EXPECT_NEAR(count[0], 90'000, 600);
  EXPECT_EQ(count[1], 0);
  EXPECT_EQ(pick_weighted(weights, ~std::uint64_t{0}), 2u);
  EXPECT_EQ(pick_weighted(weights, 0), 0u);
  EXPECT_FALSE(pick_weighted({}, 1));
  EXPECT_FALSE(pick_weighted(std::vector<std::uint32_t>{0, 0}, 1));
}

}  // namespace
}  // namespace sluice::policy
