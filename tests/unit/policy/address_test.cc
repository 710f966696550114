#include "policy/address.h"

#include <gtest/gtest.h>

namespace sluice::policy {
namespace {

TEST(IpAddress, ParsesAndPrints) {
  for (const char* text : {"0.0.0.0", "10.0.0.1", "255.255.255.255", "::", "::1", "2001:db8::1"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  EXPECT_EQ(IpAddress::parse("::ffff:10.0.0.1"), IpAddress::parse("10.0.0.1"));
  EXPECT_EQ(IpAddress::parse("2001:DB8:0::1")->to_string(), "2001:db8::1");
  EXPECT_EQ(IpAddress::v4(0x0a000001).to_string(), "10.0.0.1");
  EXPECT_EQ(IpAddress::parse("10.0.0.1")->v4_host_order(), 0x0a000001u);
}

TEST(IpAddress, RefusesWhatIsNotOne) {
  const std::string long_text(100000, '1');
  for (const std::string& text :
       {std::string(""), std::string(" "), std::string("1.2.3"), std::string("1.2.3.4 "),
        std::string("1.2.3.256"), std::string("01.2.3.4"), std::string("0x1.2.3.4"),
        std::string("1.2.3.4.5"), std::string("fe80::1%eth0"), std::string("[::1]"),
        std::string(":::"), std::string("1:2:3:4:5:6:7:8:9"), std::string("12345::"),
        std::string("1.2.3.4\0", 8), std::string("::1\0x", 5), long_text}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text.substr(0, 40);
  }
}

TEST(IpAddress, Kinds) {
  EXPECT_TRUE(IpAddress::parse("127.1.2.3")->is_loopback());
  EXPECT_TRUE(IpAddress::parse("::1")->is_loopback());
  EXPECT_FALSE(IpAddress::parse("::2")->is_loopback());
  EXPECT_FALSE(IpAddress::parse("128.0.0.1")->is_loopback());
  EXPECT_TRUE(IpAddress::parse("0.0.0.0")->is_unspecified());
  EXPECT_TRUE(IpAddress::parse("::")->is_unspecified());
  EXPECT_FALSE(IpAddress::parse("::1")->is_unspecified());
}

TEST(IpAddress, Masks) {
  EXPECT_EQ(IpAddress::parse("10.255.3.4")->masked(9).to_string(), "10.128.0.0");
  EXPECT_EQ(IpAddress::parse("10.255.3.4")->masked(0).to_string(), "0.0.0.0");
  EXPECT_EQ(IpAddress::parse("10.255.3.4")->masked(32).to_string(), "10.255.3.4");
  EXPECT_EQ(IpAddress::parse("2001:db8:1:2:3::4")->masked(64).to_string(), "2001:db8:1:2::");
  EXPECT_EQ(IpAddress::parse("ffff::")->masked(3).to_string(), "e000::");
  EXPECT_EQ(IpAddress::parse("ffff::")->masked(0).to_string(), "::");
}

TEST(Prefix, ParsesContainsAndRefuses) {
  EXPECT_EQ(Prefix::parse("10.0.0.0/8")->to_string(), "10.0.0.0/8");
  EXPECT_EQ(Prefix::parse("10.0.0.1")->length, 32);
  EXPECT_EQ(Prefix::parse("2001:db8::1")->length, 128);
  EXPECT_TRUE(Prefix::parse("10.0.0.0/8")->contains(*IpAddress::parse("10.200.0.1")));
  EXPECT_FALSE(Prefix::parse("10.0.0.0/8")->contains(*IpAddress::parse("11.0.0.0")));
  EXPECT_TRUE(Prefix::parse("0.0.0.0/0")->contains(*IpAddress::parse("1.2.3.4")));
  // ::/0 is all of IPv6 and nothing of IPv4, though IPv4 is kept inside it.
  EXPECT_FALSE(Prefix::parse("::/0")->contains(*IpAddress::parse("1.2.3.4")));
  EXPECT_FALSE(Prefix::parse("0.0.0.0/0")->contains(*IpAddress::parse("::1")));
  EXPECT_TRUE(Prefix::parse("10.0.0.0/8")->contains(*Prefix::parse("10.1.0.0/16")));
  EXPECT_FALSE(Prefix::parse("10.1.0.0/16")->contains(*Prefix::parse("10.0.0.0/8")));
  for (const char* text :
       {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8/8",
        "/8", "::1/64", "::/129", "10.0.0.0/+8", "10.0.0.0/ 8"}) {
    EXPECT_FALSE(Prefix::parse(text)) << text;
  }
}

TEST(PortRange, ParsesAndRefuses) {
  EXPECT_EQ(PortRange::parse("80"), (PortRange{80, 80}));
  EXPECT_EQ(PortRange::parse("8000-8999"), (PortRange{8000, 8999}));
  for (const char* text :
       {"", "-", "80-", "-80", "81-80", "65536", "080", "1-2-3", "a", "4294967376"}) {
    EXPECT_FALSE(PortRange::parse(text)) << text;
  }
}

TEST(SocketAddress, ParsesAndRefuses) {
  for (const char* text : {"10.0.0.1:80", "[::1]:65535", "[2001:db8::1]:1"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  for (const char* text :
       {"", ":", ":80", "10.0.0.1", "10.0.0.1:", "::1:80", "[::1]", "[::1]80", "[10.0.0.1]:80",
        "10.0.0.1:65536", "10.0.0.1:-1", "host:80", "[]:80", "[:80"}) {
    EXPECT_FALSE(SocketAddress::parse(text)) << text;
  }
}

}  // namespace
}  // namespace sluice::policy
