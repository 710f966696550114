#include "policy/routing.h"

#include <array>
#include <gtest/gtest.h>

#include "parsing.h"

namespace sluice::policy {
namespace {

std::optional<std::string> normalised(std::string_view value) {
  std::array<char, kMaxHostLength> buffer;
  const auto host = normalise_host(value, buffer);
  if (!host) return std::nullopt;
  return std::string(*host);
}

TEST(NormaliseHost, LowersAndStrips) {
  EXPECT_EQ(normalised("Api.Example.COM:8080"), "api.example.com");
  EXPECT_EQ(normalised("api.example.com."), "api.example.com");
  EXPECT_EQ(normalised("api.example.com.:80"), "api.example.com");
  EXPECT_EQ(normalised("192.0.2.1:80"), "192.0.2.1");
  EXPECT_EQ(normalised("[2001:DB8::1]:80"), "[2001:db8::1]");
  EXPECT_EQ(normalised("[::1]"), "[::1]");
  EXPECT_EQ(normalised("[2001:0db8:0:0::1]"), "[2001:db8::1]");  // one host, one name
  EXPECT_EQ(normalised("[::FFFF:a00:1]"), "[::ffff:10.0.0.1]");
  EXPECT_EQ(normalised("host:"), "host");  // RFC 3986 section 3.2.3: an empty port is allowed
  EXPECT_EQ(normalised(""), "");
}

TEST(NormaliseHost, RefusesWhatIsMalformed) {
  for (const std::string& value :
       {std::string("a b"),     std::string("a@b"),      std::string("a/b"),
        std::string("a:b"),     std::string("a:80:80"),  std::string("a:-1"),
        std::string("a:65536"), std::string("a:999999"), std::string(":80"),
        std::string("[::1"),    std::string("[::1]x"),   std::string("[1.2.3.4]"),
        std::string("[]"),      std::string("a%2eb"),    std::string("a\0b", 3),
        std::string("a\tb"),    std::string("a\\b"),     std::string("a..b"),
        std::string(".a"),      std::string("a.."),      std::string("\xc3\xa4.example"),
        std::string(256, 'a')}) {
    EXPECT_FALSE(normalised(value)) << value;
  }
  EXPECT_TRUE(normalised(std::string(255, 'a')));
}

class Routing : public testing::Test {
 protected:
  // "host path" with "=" before an exact path; "" leaves a part out.
  void add(std::string host, std::string path, const char* listener = "web") {
    Route route;
    route.listener = listener;
    route.host = std::move(host);
    if (path.starts_with('=')) {
      route.path = {PathMatch::Kind::exact, path.substr(1)};
    } else if (!path.empty()) {
      route.path = {PathMatch::Kind::prefix, path};
    }
    routes_.push_back(route);
  }

  int match(std::string_view host, std::string_view path) const {
    const RouteTable table(routes_, "web");
    RequestView request;
    request.host = host;
    request.path = path;
    const auto found = table.match(request);
    return found ? static_cast<int>(*found) : -1;
  }

  std::vector<Route> routes_;
};

TEST_F(Routing, HostPrecedence) {
  add("", "");                 // 0
  add("*.example.com", "");    // 1
  add("*.a.example.com", "");  // 2
  add("x.a.example.com", "");  // 3
  EXPECT_EQ(match("x.a.example.com", "/"), 3);
  EXPECT_EQ(match("y.a.example.com", "/"), 2);
  EXPECT_EQ(match("z.y.a.example.com", "/"), 2);
  EXPECT_EQ(match("a.example.com", "/"), 1);
  EXPECT_EQ(match("b.example.com", "/"), 1);
  EXPECT_EQ(match("example.com", "/"), 0);   // a wildcard needs a label
  EXPECT_EQ(match(".example.com", "/"), 0);  // and not an empty one
  EXPECT_EQ(match("badexample.com", "/"), 0);
  EXPECT_EQ(match("", "/"), 0);
}

TEST_F(Routing, PathPrecedence) {
  add("", "");            // 0
  add("", "/");           // 1
  add("", "/v1");         // 2
  add("", "/v1/users");   // 3
  add("", "=/v1/users");  // 4
  EXPECT_EQ(match("h", "/v1/users"), 4);
  EXPECT_EQ(match("h", "/v1/users/"), 3);
  EXPECT_EQ(match("h", "/v1/users/7"), 3);
  EXPECT_EQ(match("h", "/v1/usersx"), 2);
  EXPECT_EQ(match("h", "/v1"), 2);
  EXPECT_EQ(match("h", "/v1/"), 2);
  EXPECT_EQ(match("h", "/v10"), 1);
  EXPECT_EQ(match("h", "/"), 1);
  EXPECT_EQ(match("h", "*"), 0);  // OPTIONS *
  EXPECT_EQ(match("h", ""), 1);
}

TEST_F(Routing, ATrailingSlashOfAPrefixHasNoMeaning) {
  add("", "/v1/");
  EXPECT_EQ(match("h", "/v1"), 0);
  EXPECT_EQ(match("h", "/v1/x"), 0);
  EXPECT_EQ(match("h", "/v10"), -1);
}

TEST_F(Routing, HostWinsOverPathAndFallsThrough) {
  add("", "/v1/users");     // 0
  add("a.example", "/v1");  // 1
  add("*.example", "/v2");  // 2
  EXPECT_EQ(match("a.example", "/v1/users"), 1);
  EXPECT_EQ(match("a.example", "/v2"),
            2);  // no path of the exact host matches: the wildcard's turn
  EXPECT_EQ(match("b.example", "/v1/users"), 0);
  EXPECT_EQ(match("a.example", "/v3"), -1);
}

TEST_F(Routing, OnlyTheListenersOwnRoutes) {
  add("", "/a", "other");
  add("", "/b");
  EXPECT_EQ(match("h", "/a"), -1);
  EXPECT_EQ(match("h", "/b"), 1);
  EXPECT_EQ(RouteTable(routes_, "web").size(), 1u);
}

TEST_F(Routing, TcpTakesTheRouteThatNamesNothing) {
  add("a.example", "");
  add("", "/");
  EXPECT_FALSE(RouteTable(routes_, "web").match_connection());
  add("", "");
  EXPECT_EQ(RouteTable(routes_, "web").match_connection(), 2u);
}

TEST_F(Routing, LongHostileInputCostsLittleAndMatchesNothing) {
  add("*.example.com", "/v1/a/b");
  std::string path;
  for (int i = 0; i < 100'000; ++i)
    path += "/a";
  EXPECT_EQ(match(std::string(100'000, '.'), path), -1);
  std::string host(100'000, '.');
  host += "example.com";
  EXPECT_EQ(match(host, "/v1/a/b" + path), 0);
}

}  // namespace
}  // namespace sluice::policy
