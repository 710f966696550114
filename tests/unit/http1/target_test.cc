#include "gateway/http1/target.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace sluice::gateway::http1 {
namespace {

std::string normal(std::string_view path) {
  std::vector<char> scratch(path.size());
  const auto result = normalise_path(path, scratch);
  return result ? std::string(*result) : std::string(name(result.error()));
}

TEST(NormalisePath, Table) {
  const std::pair<const char*, const char*> cases[] = {
      // left alone
      {"/", "/"},
      {"*", "*"},
      {"/a", "/a"},
      {"/a/", "/a/"},
      {"/a.b/..c/...", "/a.b/..c/..."},
      {"/.well-known/x", "/.well-known/x"},
      {"/a/.b", "/a/.b"},
      {"/a;b=c,d/e", "/a;b=c,d/e"},
      // escapes
      {"/%41%7e%2D%2e%5f%30", "/A~-._0"},
      {"/%2f%2F", "/%2F%2F"},
      {"/a%2fb/../c", "/c"},
      {"/%e4%bd%a0", "/%E4%BD%A0"},
      {"/%20%3f%23%25%5c", "/%20%3F%23%25%5C"},
      {"/%252e%252e/a", "/%252e%252e/a"},
      {"/%25%32e", "/%252e"},
      {"/%", "bad_percent_encoding"},
      {"/%4", "bad_percent_encoding"},
      {"/%g0", "bad_percent_encoding"},
      {"/%0g", "bad_percent_encoding"},
      {"/%%41", "bad_percent_encoding"},
      {"/%u0041", "bad_percent_encoding"},
      {"/a%00b", "bad_percent_encoding"},
      // slashes
      {"//", "/"},
      {"//a///b//", "/a/b/"},
      // dots
      {"/.", "/"},
      {"/./", "/"},
      {"/a/.", "/a/"},
      {"/a/./b", "/a/b"},
      {"/a/..", "/"},
      {"/a/../", "/"},
      {"/a/b/..", "/a/"},
      {"/a/b/../c", "/a/c"},
      {"/a/b/../../c", "/c"},
      {"/a/%2e%2E/b", "/b"},
      {"/a/.%2e/b", "/b"},
      {"/a/%2e/b", "/a/b"},
      {"/a//../b", "/b"},
      {"/a/..//b", "/b"},
      {"/a%2f..%2fb", "/a%2F..%2Fb"},
      {"/..", "path_above_root"},
      {"/../", "path_above_root"},
      {"//../a", "path_above_root"},
      {"/a/../..", "path_above_root"},
      {"/%2e%2e/a", "path_above_root"},
      {"/./../a", "path_above_root"},
      // octets
      {"", "bad_target"},
      {"a", "bad_target"},
      {"/\\", "bad_target"},
      {"/a\\..\\b", "bad_target"},
      {"/a#b", "bad_target"},
      {"/a?b", "bad_target"},
      {"/a b", "bad_target"},
      {"/a\x80", "bad_target"},
      {"/%41\\", "bad_target"},
  };
  for (const auto& [path, expected] : cases) {
    EXPECT_EQ(normal(path), expected) << path;
    if (expected[0] == '/') {
      EXPECT_EQ(normal(expected), expected) << "not idempotent: " << path;
    }
  }
}

TEST(NormalisePath, ReturnsItsInputWhereNothingChanges) {
  for (const std::string path : {"/", "/a/b.c", "/a%20b", "/.x"}) {
    std::vector<char> scratch(path.size());
    const auto result = normalise_path(path, scratch);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->data(), path.data()) << path;
  }
  EXPECT_EQ(*normalise_path("/plain", {}), "/plain");  // no scratch needed
  EXPECT_FALSE(normalise_path("/a/../b", {}));         // here it is
}

TEST(ParseAuthority, Valid) {
  const struct {
    const char* text;
    const char* host;
    int port;
    HostKind kind;
  } cases[] = {
      {"a", "a", 0, HostKind::name},
      {"A-b.c_d.E.", "A-b.c_d.E.", 0, HostKind::name},
      {"a:1", "a", 1, HostKind::name},
      {"a:65535", "a", 65535, HostKind::name},
      {"a:00080", "a", 80, HostKind::name},
      {"a:", "a", 0, HostKind::name},
      {"0.0.0.0", "0.0.0.0", 0, HostKind::ipv4},
      {"255.255.255.255:80", "255.255.255.255", 80, HostKind::ipv4},
      {"1.2.3.4.example", "1.2.3.4.example", 0, HostKind::name},
      {"1a", "1a", 0, HostKind::name},
      {"[::]", "::", 0, HostKind::ipv6},
      {"[::1]:", "::1", 0, HostKind::ipv6},
      {"[1::]", "1::", 0, HostKind::ipv6},
      {"[1:2:3:4:5:6:7:8]:8", "1:2:3:4:5:6:7:8", 8, HostKind::ipv6},
      {"[1:2:3:4:5:6:7::]", "1:2:3:4:5:6:7::", 0, HostKind::ipv6},
      {"[::2:3:4:5:6:7:8]", "::2:3:4:5:6:7:8", 0, HostKind::ipv6},
      {"[::ffff:1.2.3.4]", "::ffff:1.2.3.4", 0, HostKind::ipv6},
      {"[1:2:3:4:5:6:1.2.3.4]", "1:2:3:4:5:6:1.2.3.4", 0, HostKind::ipv6},
      {"[FE80::aBcD]", "FE80::aBcD", 0, HostKind::ipv6},
  };
  for (const auto& it : cases) {
    const auto authority = parse_authority(it.text);
    ASSERT_TRUE(authority) << it.text;
    EXPECT_EQ(authority->host, it.host);
    EXPECT_EQ(authority->port.value_or(0), it.port) << it.text;
    EXPECT_EQ(authority->kind, it.kind) << it.text;
  }
}

TEST(ParseAuthority, Invalid) {
  for (const char* text : {"",
                           ":",
                           ":80",
                           "a:0",
                           "a:65536",
                           "a:99999",
                           "a:000080",
                           "a:8a",
                           "a::8",
                           "a:8:",
                           "a b",
                           "a/b",
                           "u@a",
                           "%41",
                           "a%",
                           "1.2.3",
                           "1.2.3.4.5",
                           "256.1.1.1",
                           "1.2.3.",
                           "1..2.3",
                           "01.2.3.4",
                           "1",
                           "1.2.3.4.",
                           "a.1",
                           ".",
                           "..",
                           ".a",
                           "a..",
                           "[",
                           "[]",
                           "[:]",
                           "[:::]",
                           "[::1",
                           "::1",
                           "[::1]a",
                           "[::1]:0",
                           "[1:2:3:4:5:6:7]",
                           "[1:2:3:4:5:6:7:8:9]",
                           "[1:2:3:4:5:6:7:8::]",
                           "[1::2::3]",
                           "[12345::]",
                           "[g::]",
                           "[1:]",
                           "[:1]",
                           "[1.2.3.4]",
                           "[::1.2.3]",
                           "[::1.2.3.4:5]",
                           "[::1%eth0]",
                           "[v1.a]",
                           "[[::1]]",
                           "a]",
                           "\xc3\xa4"}) {
    EXPECT_FALSE(parse_authority(text)) << text;
  }
  EXPECT_TRUE(parse_authority(std::string(255, 'a')));
  EXPECT_FALSE(parse_authority(std::string(256, 'a')));
}

}  // namespace
}  // namespace sluice::gateway::http1
