#include "policy/balancing.h"

#include <gmock/gmock.h>
#include <map>
#include <random>

namespace sluice::policy {
namespace {

using testing::ElementsAre;

std::optional<std::uint32_t> pick_once(LbPolicy policy, const std::vector<EndpointView>& endpoints,
                                       BalancerState& state, std::uint64_t random = 0,
                                       const std::vector<std::uint32_t>& tried = {}) {
  return pick({policy, endpoints, tried, random}, state);
}

TEST(RoundRobin, IsSmoothAndExact) {
  const std::vector<EndpointView> endpoints{{5, 0, true}, {1, 0, true}, {1, 0, true}};
  BalancerState state;
  std::vector<std::uint32_t> order;
  for (int i = 0; i < 7; ++i)
    order.push_back(*pick_once(LbPolicy::round_robin, endpoints, state));
  EXPECT_THAT(order, ElementsAre(0, 0, 1, 0, 2, 0, 0));
}

TEST(RoundRobin, SkipsUnavailableAndTried) {
  std::vector<EndpointView> endpoints{{1, 0, true}, {1, 0, false}, {1, 0, true}};
  BalancerState state;
  for (int i = 0; i < 10; ++i) {
    EXPECT_NE(pick_once(LbPolicy::round_robin, endpoints, state), 1u);
    EXPECT_EQ(pick_once(LbPolicy::round_robin, endpoints, state, 0, {0}), 2u);
  }
  EXPECT_FALSE(pick_once(LbPolicy::round_robin, endpoints, state, 0, {0, 2}));
}

TEST(Pick, PanicPicksAmongAll) {
  const std::vector<EndpointView> endpoints{{1, 0, false}, {1, 0, false}};
  for (const LbPolicy policy : {LbPolicy::round_robin, LbPolicy::least_request, LbPolicy::random}) {
    BalancerState state;
    EXPECT_TRUE(pick_once(policy, endpoints, state));
    EXPECT_EQ(pick_once(policy, endpoints, state, 0, {0}), 1u);
    EXPECT_FALSE(pick_once(policy, endpoints, state, 0, {0, 1}));
    EXPECT_FALSE(pick_once(policy, {}, state));
  }
}

TEST(Pick, WeightZeroIsNeverPicked) {
  const std::vector<EndpointView> endpoints{{0, 0, true}, {1, 9, false}};
  for (const LbPolicy policy : {LbPolicy::round_robin, LbPolicy::least_request, LbPolicy::random}) {
    BalancerState state;
    for (const std::uint64_t random : {std::uint64_t{0}, ~std::uint64_t{0}}) {
      EXPECT_EQ(pick_once(policy, endpoints, state, random), 1u);
    }
  }
}

TEST(Random, FollowsTheWeights) {
  const std::vector<EndpointView> endpoints{{1, 0, true}, {3, 0, true}, {6, 0, true}};
  std::mt19937_64 random(1);
  BalancerState state;
  std::vector<int> count(3);
  for (int i = 0; i < 100'000; ++i) {
    ++count[*pick_once(LbPolicy::random, endpoints, state, random())];
  }
  EXPECT_NEAR(count[0], 10'000, 500);
  EXPECT_NEAR(count[1], 30'000, 800);
  EXPECT_NEAR(count[2], 60'000, 800);
}

TEST(LeastRequest, PrefersTheIdlerOfTwo) {
  const std::vector<EndpointView> endpoints{{1, 5, true}, {1, 4, true}};
  std::mt19937_64 random(2);
  BalancerState state;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(pick_once(LbPolicy::least_request, endpoints, state, random()), 1u);
  }
}

TEST(LeastRequest, IdleEndpointsShareByWeight) {
  const std::vector<EndpointView> endpoints{{1, 0, true}, {3, 0, true}};
  std::mt19937_64 random(3);
  BalancerState state;
  int second = 0;
  for (int i = 0; i < 100'000; ++i) {
    second += pick_once(LbPolicy::least_request, endpoints, state, random()) == 1u;
  }
  EXPECT_NEAR(second, 75'000, 800);
}

TEST(LeastRequest, ASlowEndpointGetsLittle) {
  // Requests on endpoint 0 take ten times as long as on the others.
  std::vector<EndpointView> endpoints(4);
  std::mt19937_64 random(4);
  BalancerState state;
  std::multimap<int, std::uint32_t> ends;
  std::vector<int> count(4);
  for (int now = 0; now < 20'000; ++now) {
    while (!ends.empty() && ends.begin()->first <= now) {
      --endpoints[ends.begin()->second].active;
      ends.erase(ends.begin());
    }
    const std::uint32_t index = *pick_once(LbPolicy::least_request, endpoints, state, random());
    ++count[index];
    ++endpoints[index].active;
    ends.emplace(now + (index == 0 ? 200 : 20), index);
  }
  EXPECT_LT(count[0] * 3, count[1]);
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
