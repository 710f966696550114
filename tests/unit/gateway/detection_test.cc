#include "gateway/detection.h"

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

using namespace std::string_view_literals;

TEST(Detect, HttpNeedsAMethodAndASpace) {
  EXPECT_EQ(detect("GET / HTTP/1.1"), Detected::http);
  EXPECT_EQ(detect("VERSION-CONTROL "), Detected::http);
  EXPECT_EQ(detect("GE"), Detected::need_more);
  EXPECT_EQ(detect("GET"), Detected::need_more);
  EXPECT_EQ(detect("A B"), Detected::tcp);
  EXPECT_EQ(detect("get /"), Detected::tcp);
  EXPECT_EQ(detect("ABCDEFGHIJKLMNOPQ"), Detected::tcp);  // no method is that long
}

TEST(Detect, TlsIsAHandshakeRecord) {
  EXPECT_EQ(detect("\x16\x03\x01\x00\x05\x01"sv), Detected::tls);
  EXPECT_EQ(detect("\x16\x03\x01\x00\x05h"sv), Detected::tcp);  // no ClientHello
  EXPECT_EQ(detect("\x16\x03\x01"sv), Detected::need_more);
  EXPECT_EQ(detect("\x16"sv), Detected::need_more);
  EXPECT_EQ(detect("\x16\x04"sv), Detected::tcp);
}

TEST(Detect, TheRestIsTcp) {
  EXPECT_EQ(detect(""), Detected::need_more);
  EXPECT_EQ(detect("\0\0"sv), Detected::tcp);
  EXPECT_EQ(detect("*1\r\n$4\r\nPING\r\n"), Detected::tcp);
}

}  // namespace
}  // namespace sluice::gateway
