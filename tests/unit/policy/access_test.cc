#include "policy/access.h"

#include <gmock/gmock.h>

#include "parsing.h"
#include "policy/explain.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RequestView from(const char* client) {
  RequestView view;
  view.client = *IpAddress::parse(client);
  return view;
}

std::shared_ptr<const Snapshot> policy_of(const std::string& access) {
  return Snapshot::compile(
      parse_good("version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: "
                 "[\"192.0.2.77:80\"] } }\nroutes:\n  - { name: api, upstream: api, access: " +
                 access + " }\n"));
}

bool allows(const std::string& access, const char* client) {
  return policy_of(access)->route(0).access.check(from(client)).allowed;
}

TEST(Access, DenyWinsOverAllow) {
  const std::string rules = "{ allow: [10.0.0.0/8], deny: [10.1.0.0/16, 10.2.3.4] }";
  EXPECT_TRUE(allows(rules, "10.9.9.9"));
  EXPECT_FALSE(allows(rules, "10.1.2.3"));
  EXPECT_FALSE(allows(rules, "10.2.3.4"));
  EXPECT_TRUE(allows(rules, "10.2.3.5"));
  EXPECT_FALSE(allows(rules, "192.0.2.1"));
  EXPECT_FALSE(allows(rules, "2001:db8::1"));
}

TEST(Access, WithoutAllowEveryoneElseComesIn) {
  EXPECT_TRUE(allows("{ deny: [198.51.100.0/24] }", "10.9.9.9"));
  EXPECT_TRUE(allows("{ deny: [198.51.100.0/24] }", "2001:db8::1"));
  EXPECT_FALSE(allows("{ deny: [\"2001:db8::/32\"] }", "2001:db8:1::1"));
}

TEST(Access, AVersionIsNeverTheOther) {
  EXPECT_FALSE(allows("{ allow: [\"::/0\"] }", "10.0.0.1"));
  EXPECT_FALSE(allows("{ allow: [0.0.0.0/0] }", "2001:db8::1"));
  EXPECT_TRUE(allows("{ allow: [0.0.0.0/0] }", "10.0.0.1"));
}

class Caller final : public AttributeSource {
 public:
  std::optional<std::string_view> attribute(std::string_view name) const override {
    if (name == "sub") return "batch-7";
    if (name == "groups") return "ops not admins";
    return std::nullopt;
  }
  bool has(std::string_view name, std::string_view element) const override {
    return name == "groups" && (element == "ops" || element == "not admins");
  }
};

std::shared_ptr<const Snapshot> proving_policy(const std::string& access) {
  return Snapshot::compile(parse_good(
      "version: 1\nlisteners: { web: { tls: { certificates: [{ cert: a.pem }], client_ca: ca.pem, "
      "client_auth: optional } } }\nupstreams: { api: { endpoints: [\"192.0.2.77:80\"] } }\n"
      "auth: { keys: { api_keys: { keys: [{ name: a, sha256: \"" + std::string(64, '5') +
      "\" }] } } }\n"
      "routes:\n  - { name: api, upstream: api, auth: [keys], access: " +
      access + " }\n"));
}

bool allows_claims(const std::string& access) {
  const Caller caller;
  RequestView view = from("192.0.2.1");
  view.attributes = &caller;
  return proving_policy(access)->route(0).access.check(view).allowed;
}

bool allows_names(const std::string& access, std::vector<std::string_view> names) {
  const ClientIdentity identity{names};
  RequestView view = from("192.0.2.1");
  view.identity = &identity;
  return proving_policy(access)->route(0).access.check(view).allowed;
}

TEST(Access, ByClaims) {
  EXPECT_TRUE(allows_claims("{ allow: [{ claim: sub }] }"));
  EXPECT_FALSE(allows_claims("{ allow: [{ claim: tenant }] }"));
  EXPECT_TRUE(allows_claims("{ allow: [{ claim: { name: sub, exact: batch-7 } }] }"));
  EXPECT_FALSE(allows_claims("{ allow: [{ claim: { name: sub, exact: batch } }] }"));
  EXPECT_TRUE(allows_claims("{ allow: [{ claim: { name: sub, regex: \"batch-[0-9]+\" } }] }"));
  EXPECT_FALSE(allows_claims("{ deny: [{ claim: { name: groups, has: ops } }] }"));
  EXPECT_FALSE(allows_claims("{ allow: [{ claim: { name: groups, has: admins } }] }"));
  EXPECT_FALSE(allows("{ allow: [10.0.0.0/8] }", "192.0.2.1"));
  const auto policy = proving_policy("{ allow: [{ claim: sub }, 10.0.0.0/8] }");
  EXPECT_TRUE(policy->route(0).access.check(from("10.0.0.1")).allowed) << "any entry suffices";
  EXPECT_FALSE(policy->route(0).access.check(from("192.0.2.1")).allowed) << "nobody proved it";
}

TEST(Access, ByNamesOfACertificate) {
  const std::string exact = "{ allow: [{ identity: \"spiffe://example.org/batch\" }] }";
  EXPECT_TRUE(allows_names(exact, {"a.example", "spiffe://example.org/batch"}));
  EXPECT_FALSE(allows_names(exact, {"spiffe://example.org/batch/2"}));
  EXPECT_FALSE(allows_names(exact, {}));
  const std::string below = "{ allow: [{ identity: \"spiffe://example.org/*\" }] }";
  EXPECT_TRUE(allows_names(below, {"spiffe://example.org/batch"}));
  EXPECT_FALSE(allows_names(below, {"spiffe://example.com/batch"}));
  const std::string suffix = "{ deny: [{ identity: \"*.example\" }] }";
  EXPECT_FALSE(allows_names(suffix, {"a.example"}));
  EXPECT_TRUE(allows_names(suffix, {"a.example.org"}));
}

TEST(Access, WhatNobodyCanProveIsAnError) {
  const auto errors_of = [](const std::string& listener, const std::string& route) {
    return shown(parse_text("version: 1\nlisteners: { web: { " + listener +
                            " } }\nupstreams: { api: { endpoints: [\"192.0.2.77:80\"] } }\n"
                            "routes:\n  - { name: api, upstream: api, " +
                            route + " }\n")
                     .diagnostics);
  };
  EXPECT_THAT(errors_of("access: { allow: [{ claim: sub }] }", "path: /"),
              ElementsAre(HasSubstr("claim")));
  EXPECT_THAT(errors_of("protocol: http", "access: { allow: [{ claim: sub }] }"),
              ElementsAre(HasSubstr("nobody is asked who they are")));
  EXPECT_THAT(errors_of("protocol: http", "access: { allow: [{ identity: a.example }] }"),
              ElementsAre(HasSubstr("no client shows a certificate")));
}

TEST(Access, SaysWhichEntryDecided) {
  const auto policy = policy_of("{ deny: [{ cidr: 10.0.0.0/8 }], allow: [192.0.2.0/24] }");
  const AccessVerdict denied = policy->route(0).access.check(from("10.0.0.1"));
  ASSERT_NE(denied.source, nullptr);
  EXPECT_EQ(denied.source->where.line, 5);
  EXPECT_EQ(policy->route(0).access.check(from("8.8.8.8")).source, nullptr);
}

TEST(Access, ExplainShowsIt) {
  const auto policy = policy_of("{ deny: [10.0.0.0/8] }");
  RequestDescription request;
  request.client = *IpAddress::parse("10.0.0.1");
  request.host = "a.example";
  request.target = "/";
  const Explanation why = explain(*policy, request);
  EXPECT_FALSE(why.passes);
  EXPECT_EQ(why.outcome, "route `api` refuses 10.0.0.1 with 403");
  EXPECT_THAT(why.steps.back().reasons.at(0).text, HasSubstr("10.0.0.0/8"));
  request.client = *IpAddress::parse("192.0.2.1");
  EXPECT_TRUE(explain(*policy, request).passes);
}

TEST(Access, BySet) {
  const Config config = parse_good(
      "version: 1\nsets: { office: { elements: [198.51.100.0/24] } }\nlisteners: { web: { access: { "
      "allow: [{ set: office }, 192.0.2.1] } } }\n");
  const auto policy = Snapshot::compile(config);
  const Access& access = policy->listener(0).access;
  EXPECT_TRUE(access.check(from("198.51.100.7")).allowed);
  EXPECT_TRUE(access.check(from("192.0.2.1")).allowed);
  EXPECT_FALSE(access.check(from("192.0.2.2")).allowed);
  EXPECT_EQ(to_string(*access.check(from("198.51.100.7")).source), "set `office`");
}

std::vector<std::string> problems_of(const std::string& access) {
  return shown(parse_text("version: 1\nlisteners: { web: { access: " + access + " } }\n").diagnostics);
}

TEST(Access, TellsOfEntriesThatChangeNothing) {
  EXPECT_THAT(problems_of("{ deny: [10.0.0.0/8, 10.1.0.0/16] }"),
              ElementsAre(HasSubstr("2:50: warning: listener `web`: access.deny 10.1.0.0/16 lies "
                                    "within 10.0.0.0/8, which is named too")));
  EXPECT_THAT(problems_of("{ deny: [10.0.0.0/8, 10.0.0.0/8] }").size(), 1);
  EXPECT_THAT(problems_of("{ deny: [10.0.0.0/8], allow: [10.3.0.0/16, 192.0.2.1] }"),
              ElementsAre(HasSubstr("never lets anyone in")));
  EXPECT_THAT(problems_of("{ deny: [{}] }"), ElementsAre(HasSubstr("is empty")));
}

}  // namespace
}  // namespace sluice::policy
