// Routes by method, header, query and original destination, their precedence, and what validation
// says of those that cannot match.
#include <algorithm>
#include <array>
#include <gmock/gmock.h>
#include <random>
#include <tuple>

#include "parsing.h"
#include "policy/routing.h"
#include "policy/snapshot.h"
#include "requests.h"

namespace sluice::policy {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string policy_with(const std::string& routes) {
  return "version: 1\nlisteners: { web: { bind: \"127.0.0.1:80\" } }\n"
         "upstreams: { api: { endpoints: [\"192.0.2.1:80\"] } }\nroutes:\n" +
         routes;
}

// The name of the route that the policy's only listener chooses.
std::string chosen(const Config& config, const RequestView& request) {
  const RouteTable table(config.routes, "web");
  const auto found = table.match(request);
  return found ? config.routes[*found].name : "";
}

TEST(Conditions, EachNamedPartMustMatch) {
  const Config config = parse_good(policy_with(R"(
  - { name: rest, upstream: api }
  - { name: post, methods: [POST, PUT], upstream: api }
  - { name: canary, headers: [{ name: X-Canary, exact: "1" }], upstream: api }
  - { name: v2, query: [{ name: version, regex: "2([.][0-9]+)?" }], upstream: api }
  - { name: plain, headers: [{ name: x-plain, present: false }, x-also], upstream: api }
)"));
  RequestView request = request_of("h", "/");
  EXPECT_EQ(chosen(config, request), "rest");
  request.method = "PUT";
  EXPECT_EQ(chosen(config, request), "post");
  const MapFields canary(MapFields::Map{{"x-canary", "1"}});
  request.fields = &canary;
  EXPECT_EQ(chosen(config, request), "post");  // a method is more specific than a header
  request.method = "GET";
  EXPECT_EQ(chosen(config, request), "canary");
  const MapFields no_canary(MapFields::Map{{"x-canary", "1, 1"}});
  request.fields = &no_canary;
  EXPECT_EQ(chosen(config, request), "rest");
  request.query = "a=b&vers%69on=2%2e5";
  EXPECT_EQ(chosen(config, request), "v2");
  request.query = "version=3&version=2";  // the first counts
  EXPECT_EQ(chosen(config, request), "rest");
  const MapFields also(MapFields::Map{{"x-also", ""}});
  request.fields = &also;
  EXPECT_EQ(chosen(config, request), "plain");
  const MapFields both(MapFields::Map{{"x-also", ""}, {"x-plain", ""}});
  request.fields = &both;
  EXPECT_EQ(chosen(config, request), "rest");
}

TEST(Conditions, AParameterIsThereHoweverLongItIs) {
  const Config config = parse_good(policy_with(R"(
  - { name: rest, upstream: api }
  - { name: plain, query: [{ name: debug, present: false }], upstream: api }
  - { name: long, query: [{ name: debug, regex: "x*y" }, { name: debug }], upstream: api }
)"));
  RequestView request = request_of("h", "/");
  EXPECT_EQ(chosen(config, request), "plain");
  for (const std::size_t size : {1U, 2048U, 2049U, 60'000U}) {
    const std::string query = "a=b&debug=" + std::string(size, 'x');
    request.query = query;
    EXPECT_EQ(chosen(config, request), "rest") << size;
    const std::string whole = query + "y";
    request.query = whole;
    EXPECT_EQ(chosen(config, request), "long") << size;
  }
}

TEST(Conditions, OriginalDestination) {
  const Config config = parse_good(policy_with(R"(
  - { name: rest, upstream: api }
  - { name: wide, to: [203.0.113.0/24], upstream: api }
  - { name: narrow, to: [203.0.113.0/28], upstream: api }
  - { name: alt, to_ports: [8000-8080], upstream: api }
)"));
  const RouteTable table(config.routes, "web");
  EXPECT_TRUE(table.uses_destination());
  RequestView request = request_of("h", "/");
  EXPECT_EQ(chosen(config, request), "rest");  // nothing known: nothing that names one matches
  request.destination = SocketAddress::parse("203.0.113.5:8080");
  EXPECT_EQ(chosen(config, request), "narrow");
  request.destination = SocketAddress::parse("203.0.113.50:8080");
  EXPECT_EQ(chosen(config, request), "wide");
  request.destination = SocketAddress::parse("192.0.2.1:8001");
  EXPECT_EQ(chosen(config, request), "alt");
  EXPECT_EQ(config.routes[*table.match_connection("", request.destination)].name, "alt");
}

TEST(Conditions, PathsByRegularExpression) {
  const Config config = parse_good(policy_with(R"(
  - { name: prefix, path: /v1/users, upstream: api }
  - { name: user, path: { regex: "/v[0-9]+/users/[0-9]+" }, upstream: api }
  - { name: any-user, path: { regex: "/v[0-9]+/users/.*" }, upstream: api }
  - { name: exact, path: { exact: /v1/users/7 }, upstream: api }
)"));
  EXPECT_EQ(chosen(config, request_of("h", "/v1/users")), "prefix");
  EXPECT_EQ(chosen(config, request_of("h", "/v1/users/8")), "user");
  EXPECT_EQ(chosen(config, request_of("h", "/v1/users/8/x")), "any-user");
  EXPECT_EQ(chosen(config, request_of("h", "/v1/users/7")), "exact");
  EXPECT_EQ(chosen(config, request_of("h", "/x/v1/users/8")), "");  // the whole path, not a part
}

TEST(Conditions, ConnectionsTakeRoutesThatNameNothingOfHttp) {
  const Config config = parse_good(policy_with(R"(
  - { name: host, host: db.example, upstream: api }
  - { name: header, headers: [x-a], upstream: api }
  - { name: path, path: /a, upstream: api }
)"));
  const RouteTable table(config.routes, "web");
  EXPECT_FALSE(table.match_connection());
  EXPECT_EQ(table.match_connection("db.example"), 0u);
}

TEST(Conditions, IPv6HostsAreOneHostHoweverWritten) {
  const Config config =
      parse_good(policy_with("  - { name: six, host: \"[2001:DB8:0::1]\", upstream: api }\n"));
  std::array<char, kMaxHostLength> buffer;
  EXPECT_EQ(chosen(config, request_of(*normalise_host("[2001:db8::0:1]:80", buffer), "/")), "six");
}

// Against an oracle that knows no tables: every route by itself, the best rank wins.
class Oracle {
 public:
  explicit Oracle(const Config& config) : config_(config) {}

  std::string choose(const RequestView& request) const {
    const Route* best = nullptr;
    for (const Route& route : config_.routes) {
      if (matches(route, request) && (!best || rank(route) > rank(*best))) best = &route;
    }
    return best ? best->name : "";
  }

 private:
  static bool matches(const Route& route, const RequestView& request) {
    const std::string host(request.host);
    const bool wildcard = route.host.starts_with("*.");
    if (wildcard ? !host.ends_with(route.host.substr(1)) || host.size() < route.host.size()
                 : !route.host.empty() && host != route.host) {
      return false;
    }
    const std::string path(request.path);
    const std::string& wanted = route.path.value;
    switch (route.path.kind) {
      case PathMatch::Kind::any:
        break;
      case PathMatch::Kind::exact:
        if (path != wanted) return false;
        break;
      case PathMatch::Kind::prefix:
        if (!(path + "/").starts_with(wanted.ends_with('/') ? wanted : wanted + "/")) return false;
        break;
      case PathMatch::Kind::regex:  // only "/[ab]+" here
        if (path.size() < 2 || path.find_first_not_of("ab", 1) != std::string::npos) return false;
        break;
    }
    if (!route.methods.empty() && route.methods[0] != request.method) return false;
    for (const ValueMatch& header : route.headers) {
      if (request.fields->field(header.name) != header.value) return false;
    }
    return true;
  }

  static std::tuple<int, std::size_t, int, std::size_t, bool, std::size_t> rank(
      const Route& route) {
    const int host = route.host.empty() ? 0 : route.host.starts_with("*.") ? 1 : 2;
    const int path = route.path.kind == PathMatch::Kind::exact    ? 3
                     : route.path.kind == PathMatch::Kind::regex  ? 2
                     : route.path.kind == PathMatch::Kind::prefix ? 1
                                                                  : 0;
    const std::size_t length =
        route.path.kind == PathMatch::Kind::prefix ? route.path.value.size() : 0;
    return {host, route.host.size(), path, length, !route.methods.empty(), route.headers.size()};
  }

  const Config& config_;
};

TEST(Conditions, TableAgreesWithAnOracleOverRandomPolicies) {
  std::mt19937 random(7);
  const auto any_of = [&](const auto& list) { return list[random() % std::size(list)]; };
  const char* hosts[] = {"", "", "*.e", "*.x.e", "a.e", "a.x.e"};
  const char* paths[] = {"",
                         "path: /a, ",
                         "path: /a/b, ",
                         "path: { exact: /a/b }, ",
                         "path: { exact: /a }, ",
                         "path: { regex: \"/[ab]+\" }, "};
  const char* methods[] = {"", "", "methods: [GET], ", "methods: [POST], "};
  const char* headers[] = {"", "", "headers: [{ name: x, exact: a }], ",
                           "headers: [{ name: x, exact: a }, { name: y, exact: b }], "};
  const char* asked_hosts[] = {"", "a.e", "b.e", "a.x.e", "b.x.e", "e", "other"};
  const char* asked_paths[] = {"/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/c"};
  int routed = 0;
  for (int round = 0; round < 200; ++round) {
    std::string routes;
    for (int i = 0; i < 12; ++i) {
      const std::string host = any_of(hosts);
      routes += "  - { name: r" + std::to_string(i) + ", " +
                (host.empty() ? "" : "host: \"" + host + "\", ") + any_of(paths) + any_of(methods) +
                any_of(headers) + "upstream: api }\n";
    }
    ParseResult parsed = parse_text(policy_with(routes));
    if (!parsed.config) continue;  // two of them are the same
    const Oracle oracle(*parsed.config);
    for (int i = 0; i < 50; ++i) {
      RequestView request = request_of(any_of(asked_hosts), any_of(asked_paths));
      if (random() % 2) request.method = "POST";
      const MapFields fields(random() % 2 ? MapFields::Map{{"x", "a"}, {"y", "b"}}
                                          : MapFields::Map{{"x", "a"}});
      request.fields = &fields;
      const std::string name = chosen(*parsed.config, request);
      ASSERT_EQ(name, oracle.choose(request)) << routes << request.host << request.path;
      routed += !name.empty();
    }
  }
  EXPECT_GT(routed, 500);
}

std::vector<std::string> problems(const std::string& routes) {
  return shown(parse_text(policy_with(routes)).diagnostics);
}

TEST(Shadows, RoutesThatAskForTheSameAreAnError) {
  EXPECT_THAT(problems(R"(
  - { name: a, methods: [GET, PUT], headers: [x-a, x-b], upstream: api }
  - { name: b, methods: [PUT, GET], headers: [x-b, x-a], upstream: api }
)"),
              ElementsAre("p.yaml:7:5: error: route `b` never matches (the route at p.yaml:6:5 "
                          "matches the same requests)"));
}

TEST(Shadows, RoutesWhoseRequestsAreTakenAreWarnedOf) {
  EXPECT_THAT(problems(R"(
  - { name: a, methods: [GET, PUT], upstream: api }
  - { name: b, methods: [PUT], upstream: api }
)"),
              ElementsAre("p.yaml:7:5: warning: route `b` never matches: route `a` takes all its "
                          "requests (the other at p.yaml:6:5)"));
  EXPECT_THAT(problems(R"(
  - { name: a, path: { regex: "/.*" }, upstream: api }
  - { name: b, path: /v1, upstream: api }
  - { name: c, path: { exact: /v1 }, upstream: api }
)"),
              ElementsAre(HasSubstr("route `b` never matches: route `a` takes all")));
  EXPECT_THAT(problems(R"(
  - { name: b, methods: [PUT], upstream: api }
  - { name: a, methods: [GET, PUT], upstream: api }
  - { name: d, headers: [{ name: x, exact: "1" }], upstream: api }
  - { name: c, headers: [x], upstream: api }
)"),
              IsEmpty());
}

TEST(Shadows, ARegularExpressionThatNoPathMatchesIsAnError) {
  EXPECT_THAT(problems("  - { path: { regex: \"v1/.*\" }, upstream: api }\n"),
              ElementsAre(HasSubstr("never matches: every path begins with `/`")));
}

TEST(Regexes, BrokenOrHugeOnesAreErrorsWithTheirPlace) {
  EXPECT_THAT(problems("  - { path: { regex: \"/(a\" }, upstream: api }\n"),
              ElementsAre(HasSubstr("p.yaml:5:22: error: routes[0].path.regex: `/(a` is not a "
                                    "regular expression: missing ): /(a")));
  EXPECT_THAT(problems("  - { path: { regex: \"/(?=a)\" }, upstream: api }\n"),
              ElementsAre(HasSubstr("no look-around")));
  EXPECT_THAT(problems("  - { path: { regex: \"/((a{100}){100}){100}\" }, upstream: api }\n"),
              ElementsAre(HasSubstr("is not a regular expression")));
  std::string many;
  for (int i = 0; i < 400; ++i)
    many +=
        "  - { path: { regex: \"/" + std::to_string(i) + "(abcdefghij){300}\" }, upstream: api }\n";
  EXPECT_THAT(problems(many), ElementsAre(HasSubstr("too large in all")));
}

TEST(Keys, ThoseThatExcludeEachOtherAreAnError) {
  EXPECT_THAT(problems("  - { path: { prefix: /a, exact: /b }, upstream: api }\n"),
              ElementsAre(HasSubstr("`prefix` and `exact` cannot both stand in routes[0].path")));
  EXPECT_THAT(problems("  - { upstream: api, upstreams: [original_destination] }\n"),
              Contains(HasSubstr("`upstream` and `upstreams` cannot both stand in routes[0]")));
}

}  // namespace
}  // namespace sluice::policy
