#include "gateway/upstream/registry.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;

policy::Upstream upstream(std::string name, std::vector<std::string> endpoints) {
  policy::Upstream result;
  result.name = std::move(name);
  for (const std::string& text : endpoints)
    result.endpoints.push_back(
        {.address = policy::SocketAddress::parse(text).value(), .weight = 1, .where = {}});
  return result;
}

TEST(ClusterRegistry, IsEmptyBeforeTheFirstPolicy) {
  EXPECT_EQ(ClusterRegistry().current()->size(), 0u);
}

TEST(ClusterRegistry, KeepsWhatMeansTheSame) {
  ClusterRegistry registry;
  const auto first =
      registry.apply({upstream("a", {"10.0.0.1:80"}), upstream("b", {"10.0.0.2:80"})});
  auto a = upstream("a", {"10.0.0.1:80"});
  a.where = {"other.yaml", 7, 3};
  a.endpoints[0].where = {"other.yaml", 8, 1};
  const auto second = registry.apply({upstream("b", {"10.0.0.2:80"}), a});
  EXPECT_EQ(&second->at(1), &first->at(0));
  EXPECT_EQ(second->find("b"), first->find("b"));
  EXPECT_EQ(registry.current(), second);
}

TEST(ClusterRegistry, AChangedUpstreamKeepsItsEndpointsAndCounters) {
  ClusterRegistry registry;
  const auto first = registry.apply({upstream("a", {"10.0.0.1:80", "10.0.0.2:80"})});
  first->at(0).state().count_no_endpoint();
  ASSERT_TRUE(registry.order({.upstream = "a", .endpoint = "10.0.0.2:80", .drained = true}));

  auto changed = upstream("a", {"10.0.0.3:80", "10.0.0.2:80"});
  changed.endpoints[1].weight = 7;
  const auto second = registry.apply({changed});
  EXPECT_NE(&second->at(0), &first->at(0));
  EXPECT_EQ(second->at(0).state().totals().no_endpoint, 1u);
  ASSERT_EQ(second->at(0).endpoints().size(), 2u);
  EXPECT_EQ(second->at(0).endpoints()[0]->name(), "10.0.0.3:80");
  EXPECT_EQ(second->at(0).endpoints()[1], first->at(0).endpoints()[1]);
  EXPECT_TRUE(second->at(0).endpoints()[1]->drained());
  EXPECT_EQ(second->at(0).endpoints()[1]->weight(), 7u);
}

TEST(ClusterRegistry, EveryFieldCounts) {
  const auto changes = [](auto change) {
    ClusterRegistry registry;
    auto config = upstream("a", {"10.0.0.1:80"});
    config.health_check = policy::HealthCheck{};
    const auto before = registry.apply({config});
    change(config);
    return &registry.apply({config})->at(0) != &before->at(0);
  };
  EXPECT_FALSE(changes([](policy::Upstream&) {}));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.original_destination = true; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.endpoints[0].weight = 2; }));
  EXPECT_TRUE(
      changes([](policy::Upstream& u) { u.source_address = policy::SourceAddress::client; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.lb_policy = policy::LbPolicy::random; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.health_check.reset(); }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.health_check->http_path = "/up"; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.health_check->interval = 9s; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.outlier_detection.consecutive_5xx = 1; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.timeouts.idle = 9s; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.timeouts.body_idle = 9s; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.retry.attempts = 9; }));
  EXPECT_TRUE(changes([](policy::Upstream& u) { u.circuit_breakers.connections = 9; }));
}

policy::Upstream by_name(std::string name) {
  policy::Upstream result;
  result.name = std::move(name);
  policy::Endpoint endpoint;
  endpoint.dns = "api.internal";
  endpoint.port = 80;
  endpoint.weight = 2;
  result.endpoints.push_back(endpoint);
  return result;
}

// What DNS says, as the test sets it.
struct Names {
  explicit Names(ClusterRegistry& registry) {
    registry.set_resolver(
        [this](const policy::Upstream&, const policy::Endpoint&) { return answer; });
  }
  void say(std::vector<std::string> addresses) {
    answer = {.endpoints = {}, .known = true};
    for (const std::string& text : addresses)
      answer.endpoints.push_back({.address = policy::SocketAddress::parse(text).value()});
  }
  Resolution answer;
};

TEST(ClusterRegistry, EndpointsFollowDnsAndThoseThatStayAreKept) {
  ClusterRegistry registry;
  Names names(registry);
  const auto config = by_name("a");
  EXPECT_TRUE(registry.apply({config})->at(0).resolving());
  names.say({"10.0.0.1:80", "10.0.0.2:80"});
  const auto first = registry.apply({config});
  EXPECT_FALSE(first->at(0).resolving());
  EXPECT_EQ(registry.apply({config}), first);  // nothing new, nothing touched
  names.say({"10.0.0.2:80", "10.0.0.3:80"});
  const auto second = registry.apply({config});
  ASSERT_EQ(second->at(0).endpoints().size(), 2u);
  EXPECT_EQ(second->at(0).endpoints()[0], first->at(0).endpoints()[1]);
  EXPECT_EQ(second->at(0).endpoints()[0]->weight(), 2u);
  EXPECT_EQ(second->at(0).endpoints()[0]->usable_since(), 0);
  EXPECT_GT(second->at(0).endpoints()[1]->usable_since(), 0);  // the new one starts slowly
}

TEST(ClusterRegistry, WhatAnOperatorSetHoldsOverReloadsAndDns) {
  ClusterRegistry registry;
  Names names(registry);
  const auto config = by_name("a");
  names.say({"10.0.0.1:80", "10.0.0.2:80"});
  registry.apply({config});
  ASSERT_TRUE(registry.order({.upstream = "a", .endpoint = "10.0.0.1:80", .drained = true, .weight = 7}));
  EXPECT_TRUE(registry.apply({config})->at(0).endpoints()[0]->drained());
  EXPECT_EQ(registry.current()->at(0).endpoints()[0]->weight(), 7u);
  names.say({"10.0.0.2:80"});
  registry.apply({config});
  names.say({"10.0.0.1:80", "10.0.0.2:80"});  // gone, and back
  auto changed = config;
  changed.timeouts.idle = 9s;
  EXPECT_TRUE(registry.apply({changed})->at(0).endpoints()[0]->drained());
  ASSERT_TRUE(registry.order({.upstream = "a",
                              .endpoint = "10.0.0.1:80",
                              .drained = false,
                              .policy_weight = true}));
  EXPECT_FALSE(registry.apply({changed})->at(0).endpoints()[0]->drained());
  EXPECT_EQ(registry.current()->at(0).endpoints()[0]->weight(), 2u);
}

TEST(ClusterRegistry, AnOrderForNothingSaysWhatThereIs) {
  ClusterRegistry registry;
  registry.apply({upstream("a", {"10.0.0.1:80"})});
  EXPECT_EQ(registry.order({.upstream = "b", .endpoint = "10.0.0.1:80", .drained = true}).error(),
            "there is no upstream 'b'; there are: a");
  EXPECT_EQ(registry.order({.upstream = "a", .endpoint = "10.0.0.9:80", .drained = true}).error(),
            "upstream 'a' has no endpoint '10.0.0.9:80'; it has: 10.0.0.1:80");
}

TEST(ClusterRegistry, WhatIsRemovedIsGoneOnceNobodyUsesIt) {
  ClusterRegistry registry;
  auto first = registry.apply({upstream("a", {"10.0.0.1:80"})});
  const std::weak_ptr<Endpoint> endpoint = first->at(0).endpoints()[0];
  registry.apply({upstream("b", {"10.0.0.1:80"})});
  EXPECT_EQ(registry.current()->find("a"), nullptr);
  EXPECT_FALSE(endpoint.expired());  // a request may still hold the old set
  first.reset();
  EXPECT_TRUE(endpoint.expired());
}

TEST(RetryBudget, AllowsAShareOfTheLoadButThreeAtLeast) {
  RetryBudget budget;
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(budget.try_begin_retry(20));
  EXPECT_FALSE(budget.try_begin_retry(20));
  EXPECT_EQ(budget.refused(), 1u);
  for (int i = 0; i < 50; ++i)
    budget.request_begun();
  int more = 0;
  while (budget.try_begin_retry(20))
    ++more;
  EXPECT_EQ(more, 7);  // 20 % of 50 are 10
  budget.retry_ended();
  EXPECT_TRUE(budget.try_begin_retry(20));
  EXPECT_EQ(budget.retries(), 11u);
  EXPECT_EQ(budget.active_retries(), 10u);
}

}  // namespace
}  // namespace sluice::gateway
