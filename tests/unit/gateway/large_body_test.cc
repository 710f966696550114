// Bodies that are large enough to go past the gateway's memory: byte for byte, to their end and not
// further.
#include <gmock/gmock.h>
#include <random>
#include <thread>

#include "gateway_fixture.h"

namespace sluice::gateway::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string random_bytes(std::size_t size) {
  std::mt19937_64 random(7);
  std::string bytes(size, '\0');
  for (char& byte : bytes)
    byte = static_cast<char>(random());
  return bytes;
}

std::string answer_head(std::size_t length) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n";
}

class LargeBodyTest : public GatewayTest {
 protected:
  static constexpr std::size_t kSize = 24 << 20;
  const std::string body_ = random_bytes(kSize);
};

TEST_F(LargeBodyTest, AnAnswerArrivesAsItWasSentAndTheConnectionsServeTheNext) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  std::thread sender([&] { origin.send(answer_head(kSize) + body_); });
  client.read_until("\r\n\r\n");
  const std::string got = client.read_bytes(kSize);
  sender.join();
  EXPECT_TRUE(got == body_);
  client.send(kGet);
  EXPECT_THAT(origin.read_until("\r\n\r\n"), HasSubstr("GET / HTTP/1.1"));
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), EndsWith("\r\n\r\nok"));
}

TEST_F(LargeBodyTest, ARequestArrivesAsItWasSentAndTheConnectionsServeTheNext) {
  apply();
  Wire client = this->client();
  std::thread sender([&] {
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(kSize) +
                "\r\n\r\n" + body_);
  });
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  const std::string got = origin.read_bytes(kSize);
  sender.join();
  EXPECT_TRUE(got == body_);
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), EndsWith("\r\n\r\nok"));
  client.send(kGet);
  EXPECT_THAT(origin.read_until("\r\n\r\n"), HasSubstr("GET / HTTP/1.1"));
}

TEST_F(LargeBodyTest, WhatFollowsTheEndReachesNobody) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  std::thread sender([&] { origin.send(answer_head(kSize) + body_ + "more than was said"); });
  client.read_until("\r\n\r\n");
  EXPECT_TRUE(client.read_bytes(kSize) == body_);
  sender.join();
  EXPECT_TRUE(origin.at_end());  // not kept: another client's answer would begin with the rest
  client.send(kGet);
  Wire next = origin_.accept();
  next.read_until("\r\n\r\n");
  next.send(kOk);
  EXPECT_EQ(client.read_response().substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(LargeBodyTest, AnAnswerThatEndsWithItsConnectionIsWhole) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  std::thread sender([&] {
    origin.send("HTTP/1.0 200 OK\r\n\r\n" + body_);
    origin.close();
  });
  const std::string head = client.read_until("\r\n\r\n");
  std::string got;
  if (head.find("chunked") != std::string::npos) {
    for (std::string size = client.read_until("\r\n"); size != "0\r\n";
         size = client.read_until("\r\n")) {
      got += client.read_bytes(std::stoul(size, nullptr, 16));
      client.read_until("\r\n");
    }
  } else {
    got = client.read_all();
  }
  sender.join();
  EXPECT_TRUE(got == body_);
}

TEST_F(LargeBodyTest, AnAnswerThatBreaksOffIsCutShort) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  std::thread sender([&] {
    origin.send(answer_head(2 * kSize) + body_);
    origin.close();
  });
  client.read_until("\r\n\r\n");
  const std::string got = client.read_all();
  sender.join();
  EXPECT_TRUE(got == body_);
}

// A client that stops reading stops the origin, and both are let go with the client.
TEST_F(LargeBodyTest, AClientThatStopsReadingHoldsTheOriginBack) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send(answer_head(std::size_t{1} << 40));
  EXPECT_LT(origin.send_until_blocked(), std::size_t{64} << 20);
  client.close();
  EXPECT_TRUE(origin.at_end());
}

}  // namespace
}  // namespace sluice::gateway::test
