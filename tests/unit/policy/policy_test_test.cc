// Unit tests of policies: that they pass, fail, and are told what is wrong with them.
#include "policy/policy_test.h"

#include <gmock/gmock.h>

#include "parsing.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kPolicy = R"(version: 1
listeners: { web: { bind: "192.0.2.9:80" } }
upstreams: { api: { endpoints: ["192.0.2.1:80"] } }
routes: [{ name: v1, listener: web, host: a.example, path: /v1, upstream: api }]
guard: { rules: [{ name: telnet, to_ports: [23], protocol: tcp }] }
)";

std::vector<std::string> run(const std::string& test) {
  const auto parsed = parse_policy_tests("t.yaml", "tests:\n  - " + test + "\n");
  EXPECT_THAT(parsed.errors, IsEmpty()) << parsed.errors[0].to_string();
  const auto snapshot = Snapshot::compile(parse_good(kPolicy));
  const PolicyTest& one = parsed.tests.at(0);
  const RequestDescription* request = one.request ? &*one.request : nullptr;
  LiveState live;
  live.node_addresses = one.node_addresses;
  return differences(one, one.packet ? explain(*snapshot, *one.packet, request, live)
                                     : explain(*snapshot, *request, live));
}

TEST(PolicyTests, PassWhereItIsAsExpected) {
  EXPECT_THAT(run("{ packet: { from: 10.0.0.1, to: 10.0.0.2, to_port: 23 }, "
                  "expect: { verdict: drop, guard: telnet } }"),
              IsEmpty());
  EXPECT_THAT(run("{ request: { host: a.example, path: /v1/x }, "
                  "expect: { verdict: forward, route: v1, upstream: api } }"),
              IsEmpty());
  EXPECT_THAT(run("{ request: { host: b.example }, expect: { verdict: refuse, status: 404, route: } }"),
              IsEmpty());
  EXPECT_THAT(run("{ packet: { from: 10.0.0.1, to: 192.0.2.9, to_port: 80 }, "
                  "request: { host: a.example, path: /v1 }, "
                  "expect: { verdict: forward, listener: web, route: v1 } }"),
              IsEmpty());
}

TEST(PolicyTests, FailWithThePlaceThatDecided) {
  EXPECT_THAT(run("{ packet: { from: 10.0.0.1, to: 10.0.0.2, to_port: 23 }, "
                  "expect: { verdict: pass } }"),
              ElementsAre("expected verdict pass, got drop: dropped by rule `telnet` [p.yaml:5:18]"));
  EXPECT_THAT(run("{ request: { host: a.example, path: /v2 }, expect: { route: v1 } }"),
              ElementsAre(HasSubstr("expected route `v1`, got none")));
}

TEST(PolicyTests, ErrorsAreLocatedAllAtOnce) {
  const auto parsed = parse_policy_tests("t.yaml", R"(tests:
  - { pakcet: {}, expect: { verdict: drop } }
  - { packet: { from: 10.0.0.1, to: 1.2.3 }, expect: { verdict: dorp } }
  - { packet: { from: 10.0.0.1, to: "::1" } }
)");
  std::vector<std::string> lines;
  for (const auto& error : parsed.errors)
    lines.push_back(error.to_string());
  EXPECT_THAT(lines, ElementsAre(HasSubstr("t.yaml:2:5: error: the test sends nothing"),
                                 HasSubstr("t.yaml:2:7: error: unknown key `pakcet`"),
                                 HasSubstr("t.yaml:3:37: error: `1.2.3` is not an address"),
                                 HasSubstr("`dorp` is none of pass, drop"),
                                 HasSubstr("t.yaml:4:5: error: the test expects nothing"),
                                 HasSubstr("two IP versions")));
  EXPECT_THAT(parse_policy_tests("t.yaml", "tests: [").errors.at(0).to_string(),
              HasSubstr("t.yaml:2:1: error: not YAML: the file ends inside"));
  EXPECT_THAT(parse_policy_tests("t.yaml", "test: []").errors.size(), 2U);
}

}  // namespace
}  // namespace sluice::policy
