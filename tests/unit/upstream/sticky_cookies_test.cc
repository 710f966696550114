#include "gateway/upstream/sticky_cookies.h"

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kEndpoints[] = {"10.0.0.1:80", "10.0.0.2:80"};

policy::Sticky with_key(std::string key) {
  policy::Sticky config;
  config.key = std::move(key);
  return config;
}

std::string value_of(const std::string& line) {
  const auto begin = line.find('=') + 1;
  return line.substr(begin, line.find(';') - begin);
}

TEST(StickyCookies, AValueLeadsBackToItsEndpoint) {
  auto config = with_key("0123456789abcdef");
  config.max_age = 1h;
  const StickyCookies cookies(config, "api", kEndpoints);
  EXPECT_EQ(cookies.find(value_of(cookies.set_cookie(0))), 0u);
  EXPECT_EQ(cookies.find(value_of(cookies.set_cookie(1))), 1u);
  EXPECT_TRUE(cookies.set_cookie(0).ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"));
  EXPECT_EQ(cookies.set_cookie(0).find("10.0.0"), std::string::npos);
}

TEST(StickyCookies, AnotherNodeWithTheKeyUnderstandsIt) {
  const StickyCookies here(with_key("0123456789abcdef"), "api", kEndpoints);
  const std::string_view reversed[] = {kEndpoints[1], kEndpoints[0]};
  const StickyCookies there(with_key("0123456789abcdef"), "api", reversed);
  EXPECT_EQ(there.find(value_of(here.set_cookie(0))), 1u);
}

TEST(StickyCookies, WhatWasMadeUpOrSignedElsewhereIsNobodys) {
  const StickyCookies cookies(with_key("0123456789abcdef"), "api", kEndpoints);
  const StickyCookies other_key(with_key("another key, another signature"), "api", kEndpoints);
  const StickyCookies other_upstream(with_key("0123456789abcdef"), "web", kEndpoints);
  EXPECT_FALSE(cookies.find(value_of(other_key.set_cookie(0))));
  EXPECT_FALSE(cookies.find(value_of(other_upstream.set_cookie(0))));
  EXPECT_FALSE(cookies.find("10.0.0.1:80"));
  EXPECT_FALSE(cookies.find(""));
}

TEST(CookieValue, FindsAWholeName) {
  EXPECT_EQ(cookie_value("a=1; sid=x; b=2", "sid"), "x");
  EXPECT_EQ(cookie_value("xsid=1; sid=\"q\"", "sid"), "q");
  EXPECT_EQ(cookie_value("a=1, sid=two", "sid"), "two");
  EXPECT_EQ(cookie_value("sid=", "sid"), "");
  EXPECT_FALSE(cookie_value("sids=1; asid=2; sid", "sid"));
  EXPECT_FALSE(cookie_value("", "sid"));
}

}  // namespace
}  // namespace sluice::gateway
