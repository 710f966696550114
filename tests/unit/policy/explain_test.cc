// Explanations: what decided, by file:line, and why the rest did not.
#include "policy/explain.h"

#include <gmock/gmock.h>

#include "parsing.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kPolicy = R"(version: 1
protect: { from: [{ cidr: 10.9.0.0/24, to_ports: [22] }] }
intercept:
  forward:
    - { from: [10.1.0.0/16], except: { to: [10.96.0.0/12] }, ports: [443], listener: llm }
listeners:
  web: { bind: "127.0.0.1:80" }
  llm: { protocol: auto }
upstreams:
  api: { endpoints: ["192.0.2.1:80", "192.0.2.2:80"], lb_policy: least_request }
  old: { endpoints: ["192.0.2.3:80"] }
routes:
  - { name: any, listener: web, upstream: old }
  - { name: api, listener: web, host: api.example, path: /v1, upstream: api, limits: [per-client] }
  - { name: post, listener: web, host: api.example, path: /v1, methods: [POST], upstream: old }
limits: { per-client: { rate: 100/s } }
guard:
  rules:
    - { name: watch, from: [198.51.100.0/24], action: count }
    - { name: telnet, to_ports: [23], protocol: tcp, except: { from: [198.51.100.7] } }
)";

class Explaining : public testing::Test {
 protected:
  static std::shared_ptr<const Snapshot> snapshot() {
    static const auto compiled = Snapshot::compile(parse_good(kPolicy));
    return compiled;
  }
  static PacketDescription packet(const char* from, const char* to, std::uint16_t port) {
    PacketDescription made;
    made.from = *IpAddress::parse(from);
    made.to = *IpAddress::parse(to);
    made.to_port = port;
    made.from_port = 40000;
    return made;
  }
  static const Step& step(const Explanation& explanation, std::string_view phase) {
    static const Step none;
    for (const Step& one : explanation.steps) {
      if (one.phase == phase) return one;
    }
    ADD_FAILURE() << "no step " << phase;
    return none;
  }
};

TEST_F(Explaining, ADroppedPacketNamesItsRule) {
  const auto why = explain(*snapshot(), packet("198.51.100.8", "203.0.113.1", 23));
  EXPECT_FALSE(why.passes);
  EXPECT_EQ(why.outcome, "dropped by rule `telnet`");
  EXPECT_EQ(step(why, "guard").where.to_string(), "p.yaml:20:7");
  EXPECT_EQ(step(why, "guard").reasons[0].text, "rule `watch`: matches, and only counts");
}

TEST_F(Explaining, AnExceptionIsNamed) {
  const auto why = explain(*snapshot(), packet("198.51.100.7", "203.0.113.1", 23));
  EXPECT_TRUE(why.passes);
  EXPECT_EQ(step(why, "guard").reasons[1].text, "rule `telnet`: its `except` holds");
}

TEST_F(Explaining, ProtectIsAboveBans) {
  const LiveState::Ban bans[] = {{*Prefix::parse("10.9.0.0/16"), "limit per-client"}};
  const LiveState live{.bans = bans, .node_addresses = {}};
  const auto kept = explain(*snapshot(), packet("10.9.0.5", "203.0.113.1", 22), live);
  EXPECT_TRUE(kept.passes);
  EXPECT_EQ(step(kept, "protect").where.to_string(), "p.yaml:2:19");
  const auto dropped = explain(*snapshot(), packet("10.9.0.5", "203.0.113.1", 80), live);
  EXPECT_EQ(dropped.outcome, "dropped: 10.9.0.0/16 is banned");
}

TEST_F(Explaining, InterceptionNamesTheEntryOrWhyNot) {
  const auto caught = explain(*snapshot(), packet("10.1.2.3", "203.0.113.1", 443));
  EXPECT_EQ(caught.outcome, "caught (forward) for listener `llm`");
  EXPECT_EQ(step(caught, "intercept").where.to_string(), "p.yaml:5:7");
  const auto excepted = explain(*snapshot(), packet("10.1.2.3", "10.100.0.1", 443));
  EXPECT_THAT(excepted.outcome, StartsWith("not caught"));
  EXPECT_EQ(step(excepted, "intercept").reasons[0].text,
            "intercept.forward: `except.to` holds the destination");
  EXPECT_EQ(explain(*snapshot(), packet("10.1.2.3", "127.0.0.1", 80)).outcome,
            "bound by listener `web`");
}

TEST_F(Explaining, ARouteIsNamedAndWhyTheOthersLost) {
  RequestDescription request;
  request.listener = "web";
  request.host = "API.example:80";
  request.target = "/v1/users?x=1";
  const auto why = explain(*snapshot(), request);
  EXPECT_TRUE(why.passes);
  EXPECT_EQ(why.outcome, "forwarded to upstream `api`");
  EXPECT_EQ(step(why, "route").verdict, "route `api`");
  EXPECT_EQ(step(why, "route").where.to_string(), "p.yaml:14:5");
  std::vector<std::string> reasons;
  for (const Reason& reason : step(why, "route").reasons)
    reasons.push_back(reason.where.to_string() + " " + reason.text);
  EXPECT_THAT(reasons,
              ElementsAre("p.yaml:13:5 route `any`: matches too, but its host is less specific",
                          "p.yaml:15:5 route `post`: method is GET, not POST"));
  EXPECT_THAT(step(why, "limits").reasons[0].text, HasSubstr("`per-client`: 100 in 1s"));
  EXPECT_THAT(step(why, "upstream").reasons[0].text, HasSubstr("least_request over 2 endpoints"));
}

TEST_F(Explaining, WhatNoRouteClaimsGetsTheDefault) {
  RequestDescription request;
  request.listener = "llm";
  request.host = "a";
  request.target = "/";
  EXPECT_EQ(explain(*snapshot(), request).outcome, "default_route.local: refused with 404");
  request.way = Way::forward;
  EXPECT_EQ(explain(*snapshot(), request).outcome,
            "default_route.forward: forwarded to upstream `original_destination`");
  request.host = "a b";
  EXPECT_THAT(explain(*snapshot(), request).outcome, StartsWith("refused with 400"));
}

}  // namespace
}  // namespace sluice::policy
