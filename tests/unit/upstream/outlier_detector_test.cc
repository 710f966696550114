#include "gateway/upstream/outlier_detector.h"

#include <gtest/gtest.h>
#include <memory>
#include <vector>

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using Time = std::chrono::steady_clock::time_point;

constexpr Time kStart{1000h};

class OutlierTest : public testing::Test {
 protected:
  void make(std::size_t endpoints) {
    for (std::size_t i = 0; i < endpoints; ++i) {
      const policy::SocketAddress address{
          policy::IpAddress::v4(0x0A000001 + static_cast<std::uint32_t>(i)), 80};
      all.push_back(std::make_shared<Endpoint>(address, 1));
    }
  }
  bool report(std::size_t i, Outcome outcome, Time now = kStart) {
    return OutlierDetector(config).report(*all[i], all, outcome, now);
  }
  bool fail(std::size_t i, std::uint32_t times, Outcome outcome, Time now = kStart) {
    bool ejected = false;
    for (std::uint32_t n = 0; n < times; ++n)
      ejected = report(i, outcome, now) || ejected;
    return ejected;
  }

  policy::OutlierDetection config;  // 5 of 5xx, 2 connect failures, 30 s, 50 %
  std::vector<std::shared_ptr<Endpoint>> all;
};

TEST_F(OutlierTest, FiveServerErrorsInARowEject) {
  make(2);
  EXPECT_FALSE(fail(0, 4, Outcome::server_error));
  EXPECT_FALSE(report(0, Outcome::success));
  EXPECT_FALSE(fail(0, 4, Outcome::server_error));
  EXPECT_FALSE(all[0]->ejected(kStart));
  EXPECT_TRUE(report(0, Outcome::reset));
  EXPECT_TRUE(all[0]->ejected(kStart));
  EXPECT_TRUE(all[0]->ejected(kStart + 30s - 1ns));
  EXPECT_FALSE(all[0]->ejected(kStart + 30s));
  EXPECT_EQ(all[0]->totals().ejections, 1u);
}

TEST_F(OutlierTest, GatewayErrorsInARowEject) {
  make(2);
  config.consecutive_gateway_errors = 3;
  EXPECT_FALSE(fail(0, 2, Outcome::gateway_error));
  EXPECT_FALSE(report(0, Outcome::server_error));  // another kind: the row is broken
  EXPECT_FALSE(fail(1, 2, Outcome::gateway_error));
  EXPECT_TRUE(report(1, Outcome::reset));
}

TEST_F(OutlierTest, GatewayErrorsAreServerErrorsToo) {
  make(2);
  EXPECT_FALSE(fail(0, 2, Outcome::gateway_error));
  EXPECT_FALSE(fail(0, 2, Outcome::server_error));
  EXPECT_TRUE(report(0, Outcome::gateway_error));
}

TEST_F(OutlierTest, NeutralSaysNothing) {
  make(2);
  fail(0, 4, Outcome::server_error);
  EXPECT_FALSE(report(0, Outcome::neutral));
  EXPECT_TRUE(report(0, Outcome::timeout));
}

TEST_F(OutlierTest, ConnectFailuresEjectSooner) {
  make(2);
  EXPECT_FALSE(report(0, Outcome::connect_failure));
  EXPECT_TRUE(report(0, Outcome::connect_timeout));
}

TEST_F(OutlierTest, AnyAnswerShowsThatItCanBeReached) {
  make(2);
  report(0, Outcome::connect_failure);
  report(0, Outcome::server_error);
  EXPECT_FALSE(report(0, Outcome::connect_failure));
}

TEST_F(OutlierTest, ZeroTurnsAKindOff) {
  make(2);
  config.consecutive_5xx = 0;
  config.consecutive_connect_failures = 0;
  EXPECT_FALSE(fail(0, 100, Outcome::server_error));
  EXPECT_FALSE(fail(0, 100, Outcome::connect_failure));
}

TEST_F(OutlierTest, EachEjectionInARowLastsLonger) {
  make(2);
  Time now = kStart;
  for (int row = 1; row <= 12; ++row) {
    ASSERT_TRUE(fail(0, 5, Outcome::server_error, now)) << row;
    const auto lasts = std::min<std::chrono::nanoseconds>(row * 30s, 300s);
    EXPECT_TRUE(all[0]->ejected(now + lasts - 1ns)) << row;
    EXPECT_FALSE(all[0]->ejected(now + lasts)) << row;
    now += lasts;
  }
  // A healthy stretch makes the next one a first one again.
  report(0, Outcome::success, now + 30s);
  ASSERT_TRUE(fail(0, 5, Outcome::server_error, now + 31s));
  EXPECT_FALSE(all[0]->ejected(now + 61s));
}

TEST_F(OutlierTest, StragglersDoNotEjectItAgain) {
  make(2);
  EXPECT_TRUE(fail(0, 5, Outcome::server_error));
  EXPECT_FALSE(fail(0, 50, Outcome::server_error, kStart + 1s));
  EXPECT_FALSE(all[0]->ejected(kStart + 30s));
  EXPECT_EQ(all[0]->totals().ejections, 1u);
}

TEST_F(OutlierTest, OneRefusalIsEnoughAfterAnEjectionForRefusals) {
  make(2);
  EXPECT_TRUE(fail(0, 2, Outcome::connect_failure));
  EXPECT_TRUE(report(0, Outcome::connect_failure, kStart + 30s));
  EXPECT_TRUE(all[0]->ejected(kStart + 89s));
}

TEST_F(OutlierTest, ALoneEndpointIsNeverEjected) {
  make(1);
  EXPECT_FALSE(fail(0, 50, Outcome::connect_failure));
}

TEST_F(OutlierTest, AtMostTheGivenShareIsOut) {
  make(5);
  config.max_ejection_percent = 50;
  EXPECT_TRUE(fail(0, 5, Outcome::server_error));
  EXPECT_TRUE(fail(1, 5, Outcome::server_error));
  EXPECT_FALSE(fail(2, 5, Outcome::server_error));  // would be 60 %
  EXPECT_FALSE(all[2]->ejected(kStart));
  // Once another is back, there is room.
  EXPECT_TRUE(fail(2, 1, Outcome::server_error, kStart + 30s));
}

TEST_F(OutlierTest, OneOfTwoMayAlwaysGoButNotBoth) {
  make(2);
  config.max_ejection_percent = 10;
  EXPECT_TRUE(fail(0, 5, Outcome::server_error));
  EXPECT_FALSE(fail(1, 5, Outcome::server_error));
}

TEST_F(OutlierTest, ZeroPercentMeansNever) {
  make(3);
  config.max_ejection_percent = 0;
  EXPECT_FALSE(fail(0, 50, Outcome::connect_failure));
}

TEST_F(OutlierTest, AGoodCheckEndsAnEjectionForConnectFailuresOnly) {
  make(4);
  EXPECT_TRUE(fail(0, 2, Outcome::connect_failure));
  EXPECT_TRUE(fail(1, 5, Outcome::server_error));
  OutlierDetector::reached(*all[0]);
  OutlierDetector::reached(*all[1]);
  EXPECT_FALSE(all[0]->ejected(kStart + 1s));
  EXPECT_TRUE(all[1]->ejected(kStart + 1s));
}

}  // namespace
}  // namespace sluice::gateway
