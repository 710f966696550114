#include "policy/snapshot.h"

#include <gmock/gmock.h>

#include "parsing.h"
#include "policy/siphash.h"
#include "requests.h"

namespace sluice::policy {
namespace {

constexpr const char* kPolicy =
    "version: 1\n"
    "listeners: { a: { bind: \"127.0.0.1:80\" }, b: {} }\n"
    "upstreams:\n  x: { endpoints: [\"192.0.2.1:80\", \"192.0.2.2:80\"] }\n  y: { endpoints: "
    "[\"192.0.2.3:80\"] }\n"
    "intercept: { forward: [{ ports: [80], listener: b }] }\n"
    "limits: { l: { rate: 1/s }, m: { rate: 2/s } }\n"
    "routes:\n"
    "  - { listener: a, path: /x, upstreams: [{ name: x, weight: 3 }, y], limits: [m] }\n"
    "  - { listener: b, upstream: y }\n";

TEST(Snapshot, ResolvesNames) {
  const auto snapshot = Snapshot::compile(parse_good(kPolicy));
  EXPECT_EQ(snapshot->find_listener("b"), 1u);
  EXPECT_EQ(snapshot->find_upstream("y"), 1u);
  EXPECT_EQ(snapshot->find_limit("m"), 1u);
  EXPECT_FALSE(snapshot->find_limit("none"));
  const auto index = snapshot->routes(0).match(request_of("", "/x/1"));
  ASSERT_TRUE(index);
  const CompiledRoute& route = snapshot->route(*index);
  ASSERT_EQ(route.targets.size(), 2u);
  EXPECT_EQ(route.targets[0].upstream, 0u);
  EXPECT_THAT(route.weights, testing::ElementsAre(3, 1));
  ASSERT_EQ(route.limits.size(), 1u);
  EXPECT_EQ(route.limits[0].index, 1u);
  EXPECT_FALSE(snapshot->routes(0).match(request_of("", "/y")));
  EXPECT_EQ(snapshot->routes(1).match_connection(), 1u);
}

TEST(Config, ShortForms) {
  const Config config = parse_good(
      "version: 1\n"
      "admin: { token: \"file:/etc/sluice/token\" }\n"
      "tracing: { endpoint: \"http://127.0.0.1:4318\", sample: 0.5% }\n"
      "auth: { idp: { jwt: { jwks: \"http://192.0.2.30:8080/keys\" } } }\n");
  EXPECT_EQ(config.admin->token_file(), "/etc/sluice/token");
  EXPECT_DOUBLE_EQ(config.tracing->sample, 0.005);
  ASSERT_EQ(config.auth.size(), 1u);
  ASSERT_TRUE(config.auth[0].jwt && config.auth[0].jwt->jwks_url);
  EXPECT_EQ(config.auth[0].jwt->jwks_url->text, "http://192.0.2.30:8080/keys");
}

TEST(Snapshot, Fallbacks) {
  const auto snapshot = Snapshot::compile(parse_good(kPolicy));
  EXPECT_EQ(std::get<RespondStatus>(snapshot->fallback(Way::bind)).status, 404);
  EXPECT_EQ(std::get<RespondStatus>(snapshot->fallback(Way::local)).status, 404);
  const auto forward = std::get<ForwardTo>(snapshot->fallback(Way::forward));
  EXPECT_EQ(snapshot->config().upstreams[forward.upstream].name, "original_destination");
  const auto other = Snapshot::compile(
      parse_good("version: 1\nupstreams: { x: { endpoints: [\"192.0.2.1:80\"] } }\n"
                 "default_route: { local: 503, forward: x, output: 403 }\n"));
  EXPECT_EQ(std::get<RespondStatus>(other->fallback(Way::bind)).status, 503);
  EXPECT_EQ(std::get<ForwardTo>(other->fallback(Way::forward)).upstream, 0u);
  EXPECT_EQ(std::get<RespondStatus>(other->fallback(Way::output)).status, 403);
}

TEST(Snapshot, AProxyHasNoImplicitUpstream) {
  const Config config = parse_good("version: 1\nlisteners: { web: { bind: \"127.0.0.1:80\" } }\n");
  EXPECT_TRUE(config.upstreams.empty());
  EXPECT_FALSE(config.needs_kernel());
}

TEST(Fingerprint, CommentsPlacesAndOrderDoNotCount) {
  const std::string other =
      "# a comment\nversion: 1\n\n\n"
      "limits: { m: { rate: 2/s }, l: { rate: 60/m, burst: 60 } }\n"
      "routes:\n"
      "  - { upstream: y, listener: b }\n"
      "  - { listener: a, path: { prefix: /x }, upstreams: [y, { name: x, weight: 3 }], limits: "
      "[m] }\n"
      "intercept: { forward: [{ ports: [80], listener: b }] }\n"
      "upstreams:\n  y: { endpoints: [\"192.0.2.3:80\"] }\n  x: { endpoints: [\"192.0.2.2:80\", "
      "\"192.0.2.1:80\"] }\n"
      "listeners: { b: {}, a: { bind: \"127.0.0.1:80\" } }\n";
  const std::string base = std::string(kPolicy);
  std::string with_burst = base;
  with_burst.replace(with_burst.find("l: { rate: 1/s }"), 16, "l: { rate: 60/m, burst: 60 }");
  EXPECT_EQ(Snapshot::compile(parse_good(with_burst))->fingerprint(),
            Snapshot::compile(parse_good(other))->fingerprint());
  EXPECT_NE(Snapshot::compile(parse_good(base))->fingerprint(),
            Snapshot::compile(parse_good(other))->fingerprint());
}

TEST(RouteId, StaysWhenRoutesMove) {
  const auto before = Snapshot::compile(parse_good(kPolicy));
  std::string text = kPolicy;
  text.replace(text.find("routes:\n"), 8,
               "routes:\n  - { listener: a, path: /new, upstream: x }\n");
  const auto after = Snapshot::compile(parse_good(text));
  EXPECT_EQ(before->route(0).id, after->route(1).id);
  EXPECT_NE(before->route(0).id, after->route(0).id);
}

constexpr const char* kGuarding = R"(version: 1
listeners:
  a: { protocol: auto, bind: "127.0.0.1:80" }
  b: { protocol: auto, bind: "127.0.0.1:81" }
auth: { key: { api_keys: { keys: [{ name: k, sha256: "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e" }] } } }
upstreams:
  x: { endpoints: ["192.0.2.1:80"] }
  y: { endpoints: ["192.0.2.2:80"] }
  z: { endpoints: ["192.0.2.3:80"] }
  free: { endpoints: ["192.0.2.4:80"] }
routes:
  - { listener: a, host: one.example, upstream: x, access: { allow: [10.0.0.0/8] } }
  - { listener: a, host: two.example, upstream: x }
  - { listener: a, upstream: x }
  - { listener: a, host: three.example, path: /admin, upstream: y, access: { allow: [10.0.0.0/8] } }
  - { listener: a, host: three.example, upstream: y }
  - { listener: a, host: four.example, upstream: z, auth: [key] }
  - { listener: a, host: five.example, upstream: z }
  - { listener: a, host: six.example, upstream: free, limits: [] }
  - { listener: b, upstream: x, access: { allow: [10.0.0.0/8] } }
)";

// Of connections that are no HTTP, on listener a: route, upstream, whether it must not go there.
TEST(Guarded, OnlyTheNameThatARouteHasClaimedMeetsAGuardByHostAlone) {
  const auto snapshot = Snapshot::compile(parse_good(kGuarding));
  struct Case {
    std::optional<std::uint32_t> route;
    const char* upstream;
    bool guarded;
  };
  const Case cases[] = {
      {0, "x", false},  // its access has let it in
      {1, "x", false},  // another name's route
      {2, "x", true},   // any name, or none
      {std::nullopt, "x", true},
      {4, "y", true},  // a path is not known
      {std::nullopt, "y", true},
      {6, "z", true},  // who it is is not known
      {std::nullopt, "z", true},
      {7, "free", false},
      {std::nullopt, "free", false},
  };
  for (const Case& one : cases)
    EXPECT_EQ(snapshot->is_guarded(0, *snapshot->find_upstream(one.upstream), one.route),
              one.guarded)
        << one.upstream << " by route " << one.route.value_or(99);
  for (const char* upstream : {"x", "y", "z", "free"})
    EXPECT_FALSE(snapshot->is_guarded(1, *snapshot->find_upstream(upstream), std::nullopt))
        << "of another listener: " << upstream;
}

// The first of the reference implementation's vectors: key 00..0f, messages of 0, 1, … bytes 00,
// 01, …
TEST(SipHash, ReferenceVectors) {
  const HashKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::vector<std::uint8_t> message;
  const std::uint64_t expected[] = {0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a,
                                    0x85676696d7fb7e2d};
  for (const std::uint64_t hash : expected) {
    EXPECT_EQ(siphash(key, message), hash);
    message.push_back(static_cast<std::uint8_t>(message.size()));
  }
  message.clear();
  for (std::uint8_t i = 0; i < 15; ++i)
    message.push_back(i);
  EXPECT_EQ(siphash(key, message), 0xa129ca6149be45e5);
}

}  // namespace
}  // namespace sluice::policy
