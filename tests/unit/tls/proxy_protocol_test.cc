#include "gateway/proxy_protocol.h"

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

using policy::ProxyProtocol;
using policy::SocketAddress;
using State = ProxyHeaderState;

SocketAddress address(const char* text) {
  return *SocketAddress::parse(text);
}

TEST(ProxyProtocol, WhatIsWrittenIsRead) {
  for (const ProxyProtocol version : {ProxyProtocol::v1, ProxyProtocol::v2}) {
    for (const auto& [source, destination] : {std::pair("192.0.2.1:1234", "198.51.100.2:443"),
                                              std::pair("[2001:db8::1]:65535", "[::1]:1")}) {
      const std::string bytes = make_proxy_header(version, address(source), address(destination));
      for (std::size_t size = 0; size < bytes.size(); ++size) {
        ProxyHeader header;
        EXPECT_EQ(
            parse_proxy_header(std::string_view(bytes).substr(0, size), ProxyProtocol::any, header),
            State::need_more)
            << size;
      }
      ProxyHeader header;
      ASSERT_EQ(parse_proxy_header(bytes + "GET /", version, header), State::complete);
      EXPECT_EQ(header.size, bytes.size());
      EXPECT_EQ(header.source, address(source));
      EXPECT_EQ(header.destination, address(destination));
    }
  }
}

TEST(ProxyProtocol, AnotherVersionIsNotAccepted) {
  const auto v1 = make_proxy_header(ProxyProtocol::v1, address("1.2.3.4:5"), address("6.7.8.9:10"));
  const auto v2 = make_proxy_header(ProxyProtocol::v2, address("1.2.3.4:5"), address("6.7.8.9:10"));
  EXPECT_EQ(v1, "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
  ProxyHeader header;
  EXPECT_EQ(parse_proxy_header(v1, ProxyProtocol::v2, header), State::malformed);
  EXPECT_EQ(parse_proxy_header(v2, ProxyProtocol::v1, header), State::malformed);
}

TEST(ProxyProtocol, TheProxyItself) {
  ProxyHeader header;
  EXPECT_EQ(parse_proxy_header("PROXY UNKNOWN whatever\r\n", ProxyProtocol::v1, header),
            State::complete);
  EXPECT_FALSE(header.source);
  const std::string local("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
  EXPECT_EQ(parse_proxy_header(local, ProxyProtocol::v2, header), State::complete);
  EXPECT_FALSE(header.source);
  EXPECT_EQ(header.size, 16U);
}

TEST(ProxyProtocol, Malformed) {
  ProxyHeader header;
  for (const char* line :
       {"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n", "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "GET / HTTP/1.1\r\n", "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n"}) {
    EXPECT_EQ(parse_proxy_header(line, ProxyProtocol::any, header), State::malformed) << line;
  }
  EXPECT_EQ(parse_proxy_header("PROXY " + std::string(200, 'x'), ProxyProtocol::v1, header),
            State::malformed);
  const std::string short_body("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\4abcd", 20);
  EXPECT_EQ(parse_proxy_header(short_body, ProxyProtocol::v2, header), State::malformed);
  const std::string version1("\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0", 16);
  EXPECT_EQ(parse_proxy_header(version1, ProxyProtocol::v2, header), State::malformed);
}

}  // namespace
}  // namespace sluice::gateway
