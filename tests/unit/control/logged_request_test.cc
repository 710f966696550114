// A line of the access log: what was decided is not decided again.
#include "gateway/main/logged_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/main/logged_outcome.h"
#include "policy/document.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

constexpr const char* kPolicy = R"(version: 1
listeners: { web: { bind: "127.0.0.1:80" } }
upstreams: { api: { endpoints: ["192.0.2.1:80"] } }
auth: { keys: { api_keys: { keys: [{ name: a, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae }] } } }
limits:
  s: { rate: 1/s }
  by-key: { rate: 1/s, key: [{ header: x-key }] }
bans:
  rules:
    - { when: { limit: s } }
routes:
  - { name: few, path: /few, upstream: api, limits: [s, by-key] }
  - { name: mine, path: /mine, upstream: api, auth: [keys] }
  - { name: canary, path: /, headers: [{ name: x-canary, exact: "1" }], upstream: api }
  - { name: any, path: /, direct_response: { status: 418 } }
  - { name: gate, path: /gate, upstream: api, access: { deny: [192.0.2.0/24] } }
)";

policy::Config config() {
  const policy::PolicyFile file{.name = "p.yaml", .text = kPolicy};
  auto parsed = policy::parse({&file, 1});
  for (const auto& diagnostic : parsed.diagnostics)
    ADD_FAILURE() << diagnostic.to_string();
  return parsed.config.value_or(policy::Config{});
}

json::object logged(json::object line) {
  line["time"] = "2026-01-01T00:00:00.000000Z";
  line["kind"] = line.contains("kind") ? line.at("kind") : "request";
  line["client"] = "198.51.100.1:1000";
  line["listener"] = "web";
  const auto question = question_from_line(line);
  return question ? question->at("logged").as_object() : json::object{};
}

json::object step(const char* phase, const char* name) {
  return {{"phase", phase}, {"verdict", "…"}, {"name", name}, {"reasons", json::array{}}};
}

// As explain() answers of what goes by `route` now.
json::object now(const char* route) {
  return {{"ok", true},
          {"verdict", "forward"},
          {"outcome", "forwarded to upstream `api`"},
          {"passes", true},
          {"steps", json::array{step("listener", "web"), step("route", route), step("limits", ""),
                                step("upstream", "api")}}};
}

json::object told(json::object line, json::object answer) {
  return with_logged(std::move(answer), logged(std::move(line)), config(), NowBy::policy);
}

std::string places(const json::object& answer) {
  return json::serialize(answer.at("decided").at("places"));
}

TEST(LoggedOutcome, IsTheLogsAndNamesTheLimit) {
  const json::object answer =
      told({{"status", 429}, {"route", "few"}, {"reason", "limit s exceeded"}}, now("few"));
  EXPECT_EQ(answer.at("outcome"), "answered with 429: limit s exceeded; route `few`");
  EXPECT_EQ(answer.at("status"), 429);
  EXPECT_EQ(answer.at("verdict"), "refuse");
  EXPECT_EQ(answer.at("passes"), false);
  const json::array& all = answer.at("decided").at("places").as_array();
  EXPECT_EQ(all[0].at("text"), "limit `s`");
  EXPECT_EQ(all[0].at("where"), "p.yaml:6:3");
  EXPECT_EQ(all[1].at("text"), "route `few`");
  EXPECT_EQ(all[1].at("where"), "p.yaml:12:5");
  const json::object& after = answer.at("now").as_object();
  EXPECT_EQ(after.at("by"), "policy");
  EXPECT_EQ(after.at("verdict"), "forward");
  EXPECT_THAT(std::string(after.at("outcome").as_string()),
              HasSubstr("forwarded to upstream `api`, as far as the log tells; it does not have "
                        "what limit `by-key` counts by"));
}

TEST(LoggedOutcome, NamesWhatBansAuthenticationAndAccessMean) {
  EXPECT_THAT(places(told({{"status", 403}, {"reason", "banned"}}, now("few"))),
              HasSubstr(R"({"text":"the ban rule","where":"p.yaml:10:7"})"));
  json::object banned = now("few");
  banned["steps"].as_array()[1] = {
      {"phase", "bans"},
      {"verdict", "refused by the gateway: 198.51.100.1/32 is banned"},
      {"reasons", json::array{json::object{{"text", "limit s (p.yaml:10:7), 50 s left"}}}}};
  EXPECT_THAT(places(told({{"status", 403}, {"reason", "banned"}}, banned)),
              HasSubstr("still banned: limit s (p.yaml:10:7)"));
  const json::object mine =
      told({{"status", 401}, {"route", "mine"}, {"reason", "no credentials"}}, now("mine"));
  EXPECT_THAT(places(mine), HasSubstr(R"({"text":"auth `keys`","where":"p.yaml:4:9"})"));
  EXPECT_THAT(std::string(mine.at("now").at("outcome").as_string()), HasSubstr("the credentials"));
  EXPECT_THAT(
      places(told({{"status", 403}, {"route", "gate"}, {"reason", "access denied"}}, now("gate"))),
      HasSubstr("access of route `gate`"));
}

TEST(LoggedOutcome, DoesNotGuessAtRoutesThatLookAtWhatNoLogKeeps) {
  const json::object answer = told(
      {{"status", 200}, {"route", "canary"}, {"upstream", "api"}, {"endpoint", "192.0.2.1:80"}},
      now("any"));
  EXPECT_EQ(answer.at("outcome"), "answered with 200, by upstream `api`; route `canary`");
  EXPECT_EQ(answer.at("verdict"), "forward");
  EXPECT_EQ(answer.at("passes"), true);
  EXPECT_THAT(std::string(answer.at("now").at("outcome").as_string()),
              HasSubstr("not known: route `canary` looks at header fields"));
  EXPECT_FALSE(answer.at("now").as_object().contains("verdict"));
  const json::array& steps = answer.at("steps").as_array();
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[1].at("where"), "p.yaml:14:5");
}

TEST(LoggedOutcome, TellsOfNamesThatThePolicyHasNoMore) {
  EXPECT_THAT(places(told({{"status", 429}, {"route", "old"}, {"reason", "limit gone exceeded"}},
                          now("any"))),
              testing::AllOf(HasSubstr("the policy has no limit `gone` now"),
                             HasSubstr("the policy has no route `old` now")));
}

TEST(LoggedOutcome, IsToldWhereNothingCanBeAskedNow) {
  const json::object answer =
      told({{"status", 400}, {"reason", "malformed target"}},
           {{"ok", false}, {"error", "url: the gateway answers 400: malformed target"}});
  EXPECT_EQ(answer.at("ok"), true);
  EXPECT_EQ(answer.at("status"), 400);
  EXPECT_EQ(answer.at("outcome"), "answered with 400: malformed target; no route");
  EXPECT_THAT(places(answer), HasSubstr("listener `web`"));
}

TEST(LoggedOutcome, OfAConnectionThatWasTurnedAwayIsThatOfItsListener) {
  const json::object answer = told({{"kind", "refused"}, {"reason", "limit s"}}, now("few"));
  EXPECT_EQ(answer.at("outcome"), "the connection was turned away: limit s; no route");
  EXPECT_FALSE(answer.contains("status"));
  EXPECT_THAT(places(answer), HasSubstr("p.yaml:6:3"));
}

}  // namespace
}  // namespace sluice::control
