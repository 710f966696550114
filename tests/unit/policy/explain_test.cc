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

// The step of a packet to port 23 that comes in there.
Step guard_on(const std::string& guard, const char* interface, const LiveState& live = {}) {
  const auto snapshot = Snapshot::compile(parse_good("version: 1\nguard: { " + guard + " }\n"));
  PacketDescription packet{.from = *IpAddress::parse("198.51.100.8"),
                           .to = *IpAddress::parse("203.0.113.1")};
  packet.to_port = 23;
  packet.interface = interface;
  return *explain(*snapshot, packet, live).find("guard");
}

TEST_F(Explaining, ARuleLooksAtTheGuardsInterfacesOrItsOwn) {
  const std::string lan =
      "interfaces: [\"lan*\", \"eth[01]\"], rules: [{ name: telnet, to_ports: [23]";
  for (const char* interface : {"lan0", "eth1", ""})
    EXPECT_EQ(guard_on(lan + " }]", interface).verdict, "dropped by rule `telnet`") << interface;
  for (const char* interface : {"wan0", "eth2", "lo"}) {
    const Step step = guard_on(lan + " }]", interface);
    EXPECT_EQ(step.verdict, "no rule drops it") << interface;
    EXPECT_EQ(step.reasons.at(0).text, "rule `telnet`: another interface (guard.interfaces)");
  }
  const std::string own = lan + ", interfaces: [wan0] }]";
  EXPECT_TRUE(guard_on(own, "wan0").final);
  EXPECT_EQ(guard_on(own, "lan0").reasons.at(0).text, "rule `telnet`: another interface");
  // A glob does not take the loopback with it.
  EXPECT_FALSE(guard_on("interfaces: [\"*\"], rules: [{ name: a, to_ports: [23] }]", "lo").final);
  EXPECT_TRUE(guard_on("interfaces: [lo], rules: [{ name: a, to_ports: [23] }]", "lo").final);
}

TEST_F(Explaining, WhichInterfacesAutoStandsForIsNotKnownHere) {
  const std::string rules = "rules: [{ name: telnet, to_ports: [23] }]";
  const Step step = guard_on(rules, "wan0");
  EXPECT_TRUE(step.final);
  ASSERT_EQ(step.reasons.size(), 2u);
  EXPECT_EQ(
      step.reasons[1].text,
      "interfaces: auto: `wan0` is taken for one with a default route, which is not known here");
  EXPECT_EQ(guard_on(rules, "").reasons.size(), 1u);
  EXPECT_EQ(guard_on("rules: [{ name: a, to_ports: [24] }]", "wan0").reasons.size(), 1u);
}

TEST_F(Explaining, WhereTheNodeSaysWhatAutoStandsForItCounts) {
  const std::vector<std::string> with_default_route{"wan0"};
  const std::vector<LiveState::Ban> bans{{*Prefix::parse("198.51.100.8"), "a rule"}};
  const LiveState live{.auto_interfaces = with_default_route};
  for (const std::string rules :
       {"rules: [{ name: telnet, to_ports: [23] }]",
        "interfaces: [lan0], rules: [{ name: telnet, to_ports: [23], interfaces: auto }]"}) {
    const Step caught = guard_on(rules, "wan0", live);
    EXPECT_TRUE(caught.final) << rules;
    EXPECT_EQ(caught.reasons.size(), 1u) << "nothing is taken for granted: " << rules;
    EXPECT_TRUE(guard_on(rules, "", live).final) << rules;
    for (const char* other : {"lan0", "lo"})
      EXPECT_FALSE(guard_on(rules, other, live).final) << rules << " on " << other;
  }
  const auto snapshot = Snapshot::compile(
      parse_good("version: 1\nguard: { rules: [{ name: telnet, to_ports: [23] }] }\n"));
  auto one = packet("198.51.100.8", "203.0.113.1", 80);
  one.interface = "lan0";
  EXPECT_EQ(explain(*snapshot, one, {.bans = bans, .auto_interfaces = with_default_route}).verdict,
            Verdict::pass)
      << "bans are where the guard is";
}

TEST_F(Explaining, BansAndRatesActWhereTheGuardIs) {
  const auto snapshot = Snapshot::compile(
      parse_good("version: 1\nguard: { interfaces: [lan0], per_source: { syn: 200/s }, rules: [\n"
                 "  { name: in, to_ports: [23], interfaces: [lan1] },\n"
                 "  { name: out, to_ports: [23], interfaces: [wan0], direction: egress }] }\n"));
  const LiveState::Ban bans[] = {{*Prefix::parse("198.51.100.8"), "a rule"}};
  auto one = packet("198.51.100.8", "203.0.113.1", 80);
  for (const char* interface : {"lan0", "lan1", ""}) {
    one.interface = interface;
    EXPECT_EQ(explain(*snapshot, one, {.bans = bans}).verdict, Verdict::drop) << interface;
    EXPECT_NE(explain(*snapshot, one).find("syn_rate"), nullptr) << interface;
  }
  one.interface = "wan0";
  const auto passes = explain(*snapshot, one, {.bans = bans});
  EXPECT_EQ(passes.verdict, Verdict::pass);
  EXPECT_EQ(step(passes, "bans").verdict,
            "the guard, and bans with it, does not look at `wan0` (guard.interfaces)");
  EXPECT_EQ(passes.find("syn_rate"), nullptr);
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

// A gateway whose limits say what the test wants, and that has banned one source.
struct FakeGateway final : LiveGateway {
  std::vector<EndpointState> endpoints(std::uint32_t) const override { return {}; }
  LimitState limit(std::uint32_t, const RequestView&, std::uint64_t, std::uint32_t) const override {
    return {allowed, "as it is"};
  }
  std::optional<OwnBan> ban(const IpAddress& client) const override {
    return banned && banned->source.contains(client) ? banned : std::nullopt;
  }

  bool allowed = true;
  std::optional<OwnBan> banned;
};

constexpr const char* kDoor = R"(version: 1
listeners:
  web: { bind: "127.0.0.1:80", limits: [open] }
upstreams:
  api: { endpoints: ["192.0.2.1:80"] }
  trap: { endpoints: ["192.0.2.2:80"] }
routes: [{ name: api, listener: web, upstream: api, access: { deny: [203.0.113.0/24] }, limits: [few] }]
limits: { open: { unit: concurrency, max: 2 }, few: { rate: 1/s } }
sets: { bad: { elements: [203.0.113.0/24] } }
guard: { rules: [{ name: bad, from: { set: bad } }, { name: telnet, to_ports: [23], protocol: tcp }] }
)";

class ExplainingLive : public testing::Test {
 protected:
  Explanation ask(const char* client, bool claimed = false) const {
    RequestDescription request;
    request.client = *IpAddress::parse(claimed ? "10.0.0.1" : client);
    if (claimed) request.claim = {*IpAddress::parse(client), "X-Forwarded-For of 10.0.0.1"};
    request.host = "a";
    request.target = "/";
    return explain(*snapshot_, request, live());
  }
  LiveState live() const {
    LiveState live;
    live.gateway = &gateway_;
    return live;
  }
  void ban(const char* source, const char* upstream) {
    gateway_.banned = LiveGateway::OwnBan{.source = *Prefix::parse(source),
                                          .upstream = upstream,
                                          .index = snapshot_->find_upstream(upstream),
                                          .seconds_left = 60,
                                          .reason = "limit few"};
  }

  std::shared_ptr<const Snapshot> snapshot_ = Snapshot::compile(parse_good(kDoor));
  FakeGateway gateway_;
};

TEST_F(ExplainingLive, AListenersLimitComesBeforeTheRequest) {
  EXPECT_EQ(ask("198.51.100.1").outcome, "forwarded to upstream `api`");
  gateway_.allowed = false;
  const auto why = ask("198.51.100.1");
  EXPECT_EQ(why.outcome, "a new connection is closed by limit `open`");
  EXPECT_EQ(why.status, 0);
  EXPECT_EQ(why.find("route"), nullptr);
  EXPECT_THAT(why.find("limits")->reasons[0].text,
              HasSubstr("2 at a time, by client_ip; beyond: closed"));
}

TEST_F(ExplainingLive, WhatBecomesOfWhatIsBeyondALimitIsByWhereItIsUsed) {
  const auto why = ask("198.51.100.1");
  EXPECT_THAT(why.find("limits")->reasons[0].text, HasSubstr("beyond: 429"));
  const auto of_source =
      explain_source(*snapshot_, *IpAddress::parse("198.51.100.1"), KnownBy::gateway, live());
  const Step* limits = of_source.find("limits");
  ASSERT_EQ(limits->reasons.size(), 2U);
  EXPECT_THAT(limits->reasons[0].text,
              HasSubstr("limit `open`: 2 at a time, by client_ip; beyond: closed"));
  EXPECT_THAT(limits->reasons[1].text, HasSubstr("beyond: 429"));
}

TEST_F(ExplainingLive, ALimitOfUnknownClientsDependsOnThem) {
  gateway_.allowed = false;
  const auto why = ask("::");
  EXPECT_TRUE(why.passes);
  EXPECT_THAT(why.find("limits")->reasons[0].text, HasSubstr("now: depends on the client"));
}

TEST_F(ExplainingLive, ADivertedSourceHasNoRoute) {
  ban("198.51.100.1/32", "trap");
  const auto why = ask("198.51.100.1");
  EXPECT_EQ(why.verdict, Verdict::forward);
  EXPECT_EQ(why.find("bans")->verdict, "198.51.100.1/32 is banned: it goes to upstream `trap`");
  EXPECT_EQ(why.find("route"), nullptr);
  EXPECT_THAT(why.find("balance")->verdict, HasSubstr("`trap`"));
  EXPECT_EQ(ask("198.51.100.2").find("bans"), nullptr);
}

TEST_F(ExplainingLive, OnlyWhatAProxySaysIsRefused) {
  ban("198.51.100.1/32", "");
  const auto claimed = ask("198.51.100.1", true);
  EXPECT_EQ(claimed.status, 403);
  EXPECT_EQ(claimed.find("client")->verdict, "198.51.100.1, by X-Forwarded-For of 10.0.0.1");
  EXPECT_EQ(ask("198.51.100.1").outcome, "forwarded to upstream `api`");
}

TEST_F(ExplainingLive, ASourceAlone) {
  ban("203.0.113.0/24", "trap");
  const auto why =
      explain_source(*snapshot_, *IpAddress::parse("203.0.113.7"), KnownBy::all, live());
  EXPECT_EQ(why.verdict, Verdict::pass);
  EXPECT_EQ(why.find("guard")->verdict, "named by 1 rule");
  EXPECT_EQ(why.find("guard")->reasons[0].text,
            "rule `bad`: names it, by set `bad`, drops its packets");
  EXPECT_EQ(why.find("access")->verdict, "refused by 1 listener or route");
  EXPECT_EQ(why.find("limits")->reasons.size(), 2U);
  EXPECT_THAT(why.find("bans")->verdict, HasSubstr("`trap`"));
  const LiveState::Ban bans[] = {{*Prefix::parse("203.0.113.0/24"), "by hand"}};
  EXPECT_EQ(explain_source(*snapshot_, *IpAddress::parse("203.0.113.7"), KnownBy::kernel,
                           LiveState{.bans = bans})
                .verdict,
            Verdict::drop);
}

constexpr const char* kVendors = R"(version: 1
intercept:
  forward:
    - { from: [10.1.0.0/16], ports: [443], listener: llm }
listeners:
  llm: { protocol: auto, tls: { certificate_authority: { cert: a.pem, key: a.key, hosts: [api.openai.com] } } }
routes: [{ name: models, host: api.openai.com, path: /v1, ai: true }]
ai:
  providers: { openai: {} }
  bypass: { action: reject }
protect: { from: [10.3.0.0/16] }
)";

TEST_F(Explaining, TlsIsEndedForListedHostsAlone) {
  const auto compiled = Snapshot::compile(parse_good(kVendors));
  RequestDescription request;
  request.way = Way::forward;
  request.host = "api.openai.com";
  request.target = "/v1/chat/completions";
  const auto listed = explain(*compiled, request);
  EXPECT_EQ(step(listed, "tls").verdict,
            "ended by the listener's certificate authority, for `api.openai.com`");
  EXPECT_EQ(step(listed, "tls").where.to_string(), "p.yaml:6:33");
  EXPECT_THAT(step(listed, "upstream").verdict, StartsWith("served by `ai`"));
  request.host = "other.example";
  EXPECT_THAT(step(explain(*compiled, request), "tls").verdict, StartsWith("passes undecrypted"));
}

TEST_F(Explaining, WhatGoesAroundTheGatewayIsToldByAddress) {
  const auto compiled = Snapshot::compile(parse_good(kVendors));
  const auto around = packet("10.2.0.1", "192.0.2.44", 443);
  const auto offline = explain(*compiled, around);
  EXPECT_TRUE(offline.passes);
  EXPECT_THAT(step(offline, "bypass").verdict, HasSubstr("if it is a vendor's address"));
  const std::vector<IpAddress> vendors{*IpAddress::parse("192.0.2.44")};
  LiveState live;
  live.vendors = std::span<const IpAddress>(vendors);
  const auto refused = explain(*compiled, around, live);
  EXPECT_FALSE(refused.passes);
  EXPECT_THAT(refused.outcome, StartsWith("refused, and counted"));
  EXPECT_EQ(step(refused, "bypass").where.to_string(), "p.yaml:10:3");
  EXPECT_TRUE(explain(*compiled, packet("10.2.0.1", "192.0.2.44", 22), live).passes);
  EXPECT_TRUE(explain(*compiled, packet("10.3.0.1", "192.0.2.44", 443), live).passes);
  EXPECT_EQ(explain(*compiled, packet("10.2.0.1", "192.0.2.45", 443), live).find("bypass"),
            nullptr);
}

// --- what is no HTTP

constexpr const char* kMixed = R"(version: 1
listeners: { a: { protocol: auto, bind: "127.0.0.1:80" } }
auth: { key: { api_keys: { keys: [{ name: k, sha256: "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e" }] } } }
upstreams:
  x: { endpoints: ["192.0.2.1:80"] }
  y: { endpoints: ["192.0.2.2:80"] }
routes:
  - { host: key.example, upstream: y, auth: [key] }
  - { host: in.example, upstream: x, access: { allow: [10.0.0.0/8] } }
  - { host: other.example, upstream: x }
  - { host: says.example, direct_response: { status: 200 } }
  - { host: both.example, upstreams: [{ name: x, weight: 1 }, { name: y, weight: 1 }] }
  - { upstream: x }
)";

// A connection that asks for `name` by TLS.
Explanation mixed(const char* name, const char* client = "10.0.0.7") {
  const auto snapshot = Snapshot::compile(parse_good(kMixed));
  return explain_connection(*snapshot,
                            {.client = *IpAddress::parse(client), .claim = {}, .host = name});
}

TEST(ExplainConnection, IsClosedWhereTheRouteAsksWhatOnlyHttpSays) {
  const auto key = mixed("key.example");
  EXPECT_EQ(key.verdict, Verdict::refuse);
  EXPECT_EQ(key.outcome, "closed, being no HTTP: it cannot say who it is");
  EXPECT_EQ(mixed("says.example").outcome,
            "closed, being no HTTP: the route answers over HTTP only");
}

TEST(ExplainConnection, IsClosedWhereAnotherRouteGuardsTheUpstream) {
  for (const char* name : {"", "elsewhere.example"}) {
    const auto any = mixed(name);
    EXPECT_EQ(any.verdict, Verdict::refuse) << name;
    EXPECT_EQ(any.outcome,
              "closed, being no HTTP: a route of the listener asks of who goes to `x` what only "
              "HTTP says")
        << name;
  }
  EXPECT_EQ(mixed("in.example").verdict, Verdict::forward);
  EXPECT_EQ(mixed("other.example").verdict, Verdict::forward);
  EXPECT_THAT(mixed("in.example", "192.0.2.9").steps.back().phase, "access");
}

TEST(ExplainConnection, SaysWhereOneOfSeveralUpstreamsIsGuarded) {
  const auto both = mixed("both.example");
  EXPECT_EQ(both.verdict, Verdict::forward);
  EXPECT_THAT(both.steps, testing::Contains(testing::Field(
                              &Step::verdict, StartsWith("closed where it would go there, being no "
                                                         "HTTP: a route of the listener asks of "
                                                         "who goes to `y`"))));
}

TEST(ExplainConnection, IsClosedOnItsWayToADefaultThatARouteGuards) {
  std::string text = kMixed;
  text.replace(text.find("  - { upstream: x }\n"), 19, "default_route: { local: y }\n");
  const auto snapshot = Snapshot::compile(parse_good(text));
  RequestDescription connection{.client = *IpAddress::parse("10.0.0.7"), .claim = {}};
  EXPECT_THAT(explain_connection(*snapshot, connection).outcome,
              StartsWith("closed, being no HTTP"));
  connection.host = "elsewhere.example";
  connection.target = "/";
  EXPECT_EQ(explain(*snapshot, connection).verdict, Verdict::forward) << "HTTP is asked";
}

}  // namespace
}  // namespace sluice::policy
