// A name proves nothing about an address: where that is asked, and what it comes to.
#include "policy/authority.h"

#include <gmock/gmock.h>

#include "parsing.h"
#include "policy/explain.h"

namespace sluice::policy {
namespace {

using testing::HasSubstr;
using enum AuthorityVerdict;

SocketAddress address(const char* text) {
  return *SocketAddress::parse(text);
}

TEST(Authority, AnAddressMustBeTheOneThatWasDialled) {
  EXPECT_EQ(judge({"192.0.2.1", {}, address("192.0.2.1:80")}), verified);
  EXPECT_EQ(judge({"192.0.2.2", {}, address("192.0.2.1:80")}), mismatch);
  EXPECT_EQ(judge({"[2001:db8::1]", {}, address("[2001:db8::1]:80")}), verified);
  EXPECT_EQ(judge({"[2001:db8::2]", {}, address("[2001:db8::1]:80")}), mismatch);
  EXPECT_EQ(judge({"[::ffff:192.0.2.1]", {}, address("192.0.2.1:80")}), verified);
}

TEST(Authority, APortIsHeldAgainstThePortThatWasDialled) {
  EXPECT_EQ(judge({"192.0.2.1", 80, address("192.0.2.1:80")}), verified);
  EXPECT_EQ(judge({"192.0.2.1", 8080, address("192.0.2.1:80")}), mismatch);
  EXPECT_EQ(judge({"a.example", 8080, address("192.0.2.1:80")}), mismatch);
}

TEST(Authority, NamesAreAskedForAndNoneIsNone) {
  EXPECT_EQ(judge({"a.example", {}, address("192.0.2.1:80")}), std::nullopt);
  EXPECT_EQ(judge({"a.example", 80, address("192.0.2.1:80")}), std::nullopt);
  EXPECT_EQ(judge({"", {}, address("192.0.2.1:80")}), no_name);
}

constexpr const char* kPolicy = R"(version: 1
intercept: { forward: [{ from: [10.1.0.0/16], ports: [80], listener: caught }] }
listeners:
  caught: { protocol: auto, verify_authority: MODE }
upstreams:
  direct: { endpoints: original_destination }
  api: { endpoints: ["192.0.2.1:80"] }
routes:
  - { name: named, listener: caught, host: a.example, upstream: direct }
  - { name: any, listener: caught, path: /any, upstream: direct }
  - { name: elsewhere, listener: caught, path: /api, upstream: api }
  - { name: own, listener: caught, host: b.example, direct_response: { status: 403 } }
)";

std::shared_ptr<const Snapshot> policy_of(const std::string& mode) {
  std::string text = kPolicy;
  text.replace(text.find("MODE"), 4, mode);
  return Snapshot::compile(parse_good(text));
}

TEST(Authority, MattersWhereTheNameDecides) {
  const auto policy = policy_of("strict");
  EXPECT_TRUE(policy->route(0).by_name);
  EXPECT_FALSE(policy->route(1).by_name);
  EXPECT_TRUE(policy->route(2).by_name);
  EXPECT_FALSE(policy->route(3).by_name) << "an answer of our own goes nowhere";
  EXPECT_FALSE(policy->fallback_by_name(Way::forward)) << "the original destination";
  const Listener& listener = policy->config().listeners[0];
  EXPECT_TRUE(authority_matters(listener, Way::forward, true));
  EXPECT_TRUE(authority_matters(listener, Way::output, true));
  EXPECT_FALSE(authority_matters(listener, Way::local, true));
  EXPECT_FALSE(authority_matters(listener, Way::bind, true));
  EXPECT_FALSE(authority_matters(listener, Way::forward, false));
  EXPECT_FALSE(authority_matters(policy_of("none")->config().listeners[0], Way::forward, true));
}

Explanation explained(const std::string& mode, const char* host, const char* target) {
  RequestDescription request;
  request.listener = "caught";
  request.way = Way::forward;
  request.client = *IpAddress::parse("10.1.2.3");
  request.destination = address("203.0.113.5:80");
  request.host = host;
  request.target = target;
  return explain(*policy_of(mode), request);
}

TEST(Authority, ExplainSaysWhatMustHold) {
  const Explanation asked = explained("strict", "a.example", "/");
  ASSERT_NE(asked.find("authority"), nullptr);
  EXPECT_EQ(asked.find("authority")->verdict, "`a.example` must resolve to 203.0.113.5");
  EXPECT_EQ(asked.find("authority")->where.line, 4);
  EXPECT_EQ(asked.verdict, Verdict::forward);
  EXPECT_EQ(explained("strict", "a.example", "/any").find("route")->name, "named");
  EXPECT_EQ(explained("strict", "c.example", "/any").find("authority"), nullptr);
  EXPECT_EQ(explained("none", "a.example", "/").find("authority"), nullptr);
}

TEST(Authority, ExplainKnowsWhatCannotHold) {
  const Explanation other = explained("strict", "192.0.2.9", "/api");
  EXPECT_EQ(other.verdict, Verdict::refuse);
  EXPECT_EQ(other.status, 421);
  EXPECT_THAT(other.find("authority")->verdict, HasSubstr("`192.0.2.9` is not 203.0.113.5"));
  EXPECT_EQ(explained("audit", "192.0.2.9", "/api").verdict, Verdict::forward);
}

}  // namespace
}  // namespace sluice::policy
