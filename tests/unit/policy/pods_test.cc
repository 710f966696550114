// Pods by label: how they are written and read, whom a selector means, and what rules that name
// pods hold.
#include "policy/pods.h"

#include <algorithm>
#include <gmock/gmock.h>

#include "policy/document.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

IpAddress address(std::string_view text) {
  return IpAddress::parse(text).value();
}

Pod pod(std::string name_space, std::string name, std::vector<IpAddress> addresses,
        std::vector<PodLabel> labels) {
  return {std::move(name_space), std::move(name), std::move(addresses), std::move(labels)};
}

TEST(Pods, AreReadAsTheyAreWritten) {
  Pod web = pod("shop", "web-0", {address("10.1.0.9")}, {});
  web.uid = "0b1c-2d";
  const std::vector<Pod> pods{pod("shop", "api-1", {address("10.1.0.7"), address("2001:db8::7")},
                                  {{"app", "api"}, {"example.com/tier", ""}}),
                              pod("default", "bare", {address("10.1.0.8")}, {}), web};
  EXPECT_EQ(to_text(pods),
            "shop/api-1 10.1.0.7,2001:db8::7 app=api,example.com/tier=\n"
            "default/bare 10.1.0.8 -\n"
            "shop/web-0/0b1c-2d 10.1.0.9 -\n");
  EXPECT_EQ(parse_pods(to_text(pods)), pods);
}

TEST(Pods, WhatIsNoPodIsLeftOut) {
  for (const char* line :
       {"", "shop", "shop/api", "shop/api 10.1.0.7", "shop/api 10.1.0.7/24 -", "/api 10.1.0.7 -",
        "shop/ 10.1.0.7 -", "shop/api  -", "shop/api 10.1.0.7 app", "shop/api 10.1.0.7 a b=c",
        "shop/api/ 10.1.0.7 -", "shop/api/a/b 10.1.0.7 -", "shop/api 10.1.0.7 app=a b",
        "sh op/api 10.1.0.7 -", "shop/api 10.1.0.7, -"}) {
    EXPECT_TRUE(parse_pods(line).empty()) << line;
  }
  EXPECT_EQ(parse_pods("rubbish\nshop/api 10.1.0.7 -\nrubbish").size(), 1);
  std::string many;
  for (std::size_t i = 0; i < kMaxPods + 10; ++i)
    many += "shop/api 10.1.0.7 -\n";
  EXPECT_EQ(parse_pods(many).size(), kMaxPods);
}

TEST(Pods, ASelectorMeansThoseWithAllOfItsLabels) {
  const Pod agent = pod("ai", "agent-1", {address("10.1.0.7")}, {{"app", "agent"}, {"tier", "1"}});
  const auto means = [&](const PodSelector& selector) { return selects(selector, agent); };
  EXPECT_TRUE(means({"ai", {{"app", "agent"}}}));
  EXPECT_TRUE(means({"", {{"app", "agent"}, {"tier", "1"}}}));
  EXPECT_FALSE(means({"ai", {{"app", "agent"}, {"tier", "2"}}}));
  EXPECT_FALSE(means({"ai", {{"app", "agent"}, {"zone", "a"}}}));
  EXPECT_FALSE(means({"shop", {{"app", "agent"}}}));
  EXPECT_FALSE(means({"ai", {}}));  // all of them would be nobody's wish
}

TEST(Pods, TheSystemsOwnAreMeantByTheirNamespaceAlone) {
  const Pod dns = pod("kube-system", "dns", {address("10.1.0.9")}, {{"app", "agent"}});
  EXPECT_FALSE(selects({"", {{"app", "agent"}}}, dns));
  EXPECT_TRUE(selects({"kube-system", {{"app", "agent"}}}, dns));
}

TEST(Pods, AddressesThatAreGone) {
  const std::vector<Pod> before{pod("a", "x", {address("10.1.0.1"), address("10.1.0.2")}, {}),
                                pod("a", "y", {address("10.1.0.3")}, {})};
  const std::vector<Pod> now{pod("a", "x", {address("10.1.0.2")}, {})};
  EXPECT_EQ(addresses_gone(before, now),
            (std::vector<IpAddress>{address("10.1.0.1"), address("10.1.0.3")}));
  EXPECT_TRUE(addresses_gone(now, now).empty());
}

TEST(Pods, AnAddressThatAnotherPodHasNowIsGone) {
  const Pod first = pod("a", "x", {address("10.1.0.1")}, {});
  const Pod other = pod("a", "y", {address("10.1.0.1")}, {});
  Pod again = first;
  again.uid = "2";  // deleted, and made again by the same name
  const std::vector<IpAddress> it{address("10.1.0.1")};
  EXPECT_EQ(addresses_gone(std::span(&first, 1), std::span(&other, 1)), it);
  EXPECT_EQ(addresses_gone(std::span(&first, 1), std::span(&again, 1)), it);
}

constexpr const char* kPolicy = R"(version: 1
sets: { agents: { pods: { namespace: ai, labels: { app: agent } } } }
listeners: { web: { protocol: auto } }
intercept:
  forward:
    - { from: [{ pods: { namespace: ai, labels: { app: agent } } }], ports: [443], listener: web }
limits: { slow: { from: [{ pods: { labels: { tier: batch } } }], rate: 1/s } }
routes: [{ listener: web, upstream: original_destination, limits: [slow],
           access: { deny: [{ pods: { labels: { app: rogue } } }] } }]
guard: { rules: [{ name: rogues, from: [{ pods: { labels: { app: rogue } } }], action: drop },
                 { name: named, from: { set: agents }, action: count }] }
)";

ParseResult parse_with(const std::string& pods) {
  std::vector<PolicyFile> files{{"policy.yaml", kPolicy}};
  if (!pods.empty()) files.push_back({"pods", pods, PolicyFile::Kind::pods});
  return parse(files);
}

std::string problems(const ParseResult& result) {
  std::string out;
  for (const auto& one : result.diagnostics)
    out += one.to_string() + "\n";
  return out;
}

TEST(Pods, RulesHoldWhoIsThere) {
  const auto result = parse_with(
      "ai/agent-1 10.1.0.7,2001:db8::7 app=agent\n"
      "shop/bad 10.1.0.8 app=rogue\n"
      "kube-system/bad 10.1.0.9 app=rogue\n"
      "shop/batch 10.1.0.10 tier=batch\n");
  ASSERT_TRUE(result.config) << problems(result);
  const Config& config = *result.config;
  const auto set = [&](const std::string& name) {
    const auto found = std::ranges::find(config.sets, name, &SetConfig::name);
    return found == config.sets.end() ? empty_address_set() : found->members;
  };
  EXPECT_EQ(set("agents")->size(), 2);
  EXPECT_EQ(set("pods:ai/app=agent")->size(), 2);
  EXPECT_TRUE(set("pods:*/app=rogue")->contains(address("10.1.0.8")));
  EXPECT_FALSE(set("pods:*/app=rogue")->contains(address("10.1.0.9"))) << "the system's own";
  const Intercept& entry = config.intercept.forward.front();
  const auto caught = [&](std::string_view who) {
    return std::ranges::any_of(entry.from,
                               [&](const Prefix& from) { return from.contains(address(who)); });
  };
  EXPECT_TRUE(caught("10.1.0.7"));
  EXPECT_TRUE(caught("2001:db8::7"));
  EXPECT_FALSE(caught("10.1.0.8"));
  EXPECT_TRUE(config.limits.front().from.contains(address("10.1.0.10")));
  EXPECT_FALSE(config.limits.front().from.contains(address("10.1.0.7")));
  EXPECT_TRUE(
      config.routes.front().access.deny.front().set->members->contains(address("10.1.0.8")));
  EXPECT_TRUE(config.guard->rules[0].match.from.contains(address("10.1.0.8")));
  EXPECT_TRUE(config.kubernetes) << "somebody has to be asked";
}

TEST(Pods, WhereThereIsNoneNobodyIsMeantAndNotEverybody) {
  const auto result = parse_with("");
  ASSERT_TRUE(result.config) << problems(result);
  const Config& config = *result.config;
  EXPECT_FALSE(config.intercept.forward.front().from.empty()) << "empty would be everybody";
  for (const Prefix& from : config.intercept.forward.front().from)
    EXPECT_TRUE(from == (Prefix{IpAddress::v4(0), 32}) || from == (Prefix{IpAddress(), 128}));
  EXPECT_FALSE(config.limits.front().from.empty());
  EXPECT_FALSE(config.limits.front().from.contains(address("10.1.0.7")));
}

TEST(Pods, AnotherPodIsAnotherPolicyAndTheSameOnesAreNot) {
  const auto fingerprint = [](const std::string& pods) {
    return Snapshot::compile(std::move(*parse_with(pods).config))->fingerprint();
  };
  const auto one = fingerprint("ai/agent-1 10.1.0.7 app=agent\n");
  EXPECT_NE(one, fingerprint("ai/agent-1 10.1.0.8 app=agent\n"));
  EXPECT_EQ(one, fingerprint("ai/agent-1 10.1.0.7 app=agent,more=labels\nshop/x 10.1.0.9 -\n"));
  EXPECT_NE(one, fingerprint("ai/agent-2 10.1.0.7 app=agent\n")) << "it is counted anew";
}

TEST(Pods, EntriesOfPodsMayMeanTheSameOnes) {
  const std::string policy = R"(version: 1
listeners: { a: { protocol: auto }, b: { protocol: auto } }
intercept:
  forward:
    - { from: [{ pods: { labels: { app: agent } } }], ports: [443], listener: a }
    - { from: [{ pods: { labels: { tier: one } } }], ports: [443], listener: b }
    - { ports: [443], listener: b }
)";
  const std::vector<PolicyFile> files{
      {"policy.yaml", policy},
      {"pods", "ai/agent-1 10.1.0.7 app=agent,tier=one\n", PolicyFile::Kind::pods}};
  const auto result = parse(files);
  EXPECT_TRUE(result.config) << problems(result);
}

TEST(Pods, WhatASelectorCannotBe) {
  const auto error_of = [](const std::string& pods) {
    const std::vector<PolicyFile> files{
        {"policy.yaml", "version: 1\nsets: { x: { pods: " + pods + " } }\n"}};
    const auto result = parse(files);
    return result.diagnostics.empty() ? std::string() : result.diagnostics.front().to_string();
  };
  EXPECT_THAT(error_of("{ namespace: ai }"), ::testing::HasSubstr("policy.yaml:2"));
  EXPECT_THAT(error_of("{ namespace: ai }"), ::testing::HasSubstr("labels"));
  EXPECT_THAT(error_of("{ labels: {} }"), ::testing::HasSubstr("pods without labels"));
  EXPECT_THAT(error_of("{ namespace: A, labels: { a: b } }"),
              ::testing::HasSubstr("is not the name of a namespace"));
  EXPECT_THAT(error_of("{ labels: { \"a b\": c } }"), ::testing::HasSubstr("is not a label"));
  EXPECT_THAT(error_of("{ labels: { a: \"b,c\" } }"), ::testing::HasSubstr("is not a label"));
}

}  // namespace
}  // namespace sluice::policy
