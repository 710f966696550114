// Forwarded (RFC 7239): what is read of it, and what is not believed.
#include "gateway/http/forwarded.h"

#include <gtest/gtest.h>

namespace sluice::gateway::http {
namespace {

std::string nodes_of(std::string_view field) {
  ForwardedElements memory;
  const auto elements = parse_forwarded(field, memory);
  if (!elements) return "unreadable";
  std::string out;
  for (const ForwardedElement& element : *elements)
    out.append("<").append(element.node).append("|").append(element.proto).append(">");
  return out;
}

TEST(Forwarded, TheExamplesOfTheRfc) {
  EXPECT_EQ(nodes_of(R"(for="_gazonk")"), "<_gazonk|>");
  EXPECT_EQ(nodes_of(R"(For="[2001:db8:cafe::17]:4711")"), "<[2001:db8:cafe::17]:4711|>");
  EXPECT_EQ(nodes_of("for=192.0.2.60;proto=http;by=203.0.113.43"), "<192.0.2.60|http>");
  EXPECT_EQ(nodes_of("for=192.0.2.43, for=198.51.100.17"), "<192.0.2.43|><198.51.100.17|>");
  EXPECT_EQ(nodes_of(R"(for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown)"),
            "<192.0.2.43|><[2001:db8:cafe::17]|><unknown|>");
  EXPECT_EQ(nodes_of(""), "");
}

TEST(Forwarded, AQuotedTextMayHoldWhatSeparates) {
  EXPECT_EQ(nodes_of(R"(host="a,for=6.6.6.6;b";for=192.0.2.1, for=192.0.2.2)"),
            "<192.0.2.1|><192.0.2.2|>");
}

TEST(Forwarded, WhatCannotBeReadIsNotBelieved) {
  for (const char* bad : {"192.0.2.1", "for", "for=\"192.0.2.1", R"(for="a\"b")", "for=1.2.3.4 x",
                          "for=1.2.3.4,", "for=1.2.3.4;", ",for=1.2.3.4", "\"for\"=1.2.3.4"})
    EXPECT_EQ(nodes_of(bad), "unreadable") << bad;
  std::string many = "for=192.0.2.1";
  for (std::size_t i = 0; i < kMostHops; ++i)
    many += ",for=192.0.2.1";
  EXPECT_EQ(nodes_of(many), "unreadable");
}

TEST(Forwarded, AddressesOfNodes) {
  const auto text = [](std::string_view node) {
    const auto address = address_of_node(node);
    return address ? address->to_string() : "none";
  };
  EXPECT_EQ(text("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(text("192.0.2.1:80"), "192.0.2.1");
  EXPECT_EQ(text("[2001:db8::1]"), "2001:db8::1");
  EXPECT_EQ(text("[2001:db8::1]:4711"), "2001:db8::1");
  for (const char* none : {"unknown", "_hidden", "", "2001:db8::1", "[2001:db8::1", "[::1]x"})
    EXPECT_EQ(text(none), "none") << none;
}

TEST(Forwarded, IsWrittenAsItIsRead) {
  for (const char* address : {"192.0.2.1", "2001:db8::1"}) {
    std::string written;
    append_for(*policy::IpAddress::parse(address), written);
    ForwardedElements memory;
    const auto elements = parse_forwarded(written, memory);
    ASSERT_TRUE(elements) << written;
    EXPECT_EQ(address_of_node((*elements)[0].node)->to_string(), address);
  }
}

TEST(Forwarded, TheClientIsTheFirstFromTheRightThatIsNoTrustedProxy) {
  const std::vector<policy::Prefix> trusted{*policy::Prefix::parse("10.0.0.0/8")};
  const auto named = [&](std::string_view field) {
    const auto client = client_in_x_forwarded_for(field, trusted).client;
    return client ? client->to_string() : "";
  };
  EXPECT_EQ(named("198.51.100.7"), "198.51.100.7");
  EXPECT_EQ(named("192.0.2.1, 198.51.100.7, 10.0.0.2"), "198.51.100.7");
  EXPECT_EQ(named("10.0.0.3, 10.0.0.2"), "10.0.0.3");
  EXPECT_EQ(named("198.51.100.7, unknown, 10.0.0.2"), "10.0.0.2");
  EXPECT_EQ(named("192.0.2.1, 198.51.100.7:4711, 10.0.0.2:80"), "198.51.100.7");
  EXPECT_EQ(named("[2001:db8::7]:4711, 10.0.0.2"), "2001:db8::7");
  EXPECT_EQ(named("2001:db8::7, 10.0.0.2"), "2001:db8::7");
  EXPECT_EQ(named("unknown"), "");
  EXPECT_EQ(named(""), "");
  const auto said =
      client_in_forwarded("for=192.0.2.1, for=198.51.100.7;proto=https, for=10.0.0.2", trusted);
  EXPECT_EQ(said.client->to_string(), "198.51.100.7");
  EXPECT_EQ(said.proto, "https");
  EXPECT_FALSE(client_in_forwarded("for=\"", trusted).client);
}

}  // namespace
}  // namespace sluice::gateway::http
