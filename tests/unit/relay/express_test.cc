// How much a transport writes by the express lane before it hears from its peer.
#include "gateway/express.h"

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

constexpr std::size_t kMost = ExpressLane::kMost;

TEST(ExpressLane, ThePeersFirstBytesSayWhetherItIsThere) {
  ExpressLane lane;
  lane.said(10 * kMost);
  EXPECT_FALSE(lane.holds());
  EXPECT_TRUE(lane.may_bring());
  lane.heard(1, false);
  EXPECT_FALSE(lane.watched());
  EXPECT_FALSE(lane.may_bring());
  lane.said(10 * kMost);
  EXPECT_FALSE(lane.holds());
}

TEST(ExpressLane, WhoWasOfferedHoldsUntilThePeerSpeaks) {
  ExpressLane lane;
  lane.expect();
  lane.said(kMost - 1);
  EXPECT_FALSE(lane.holds());
  lane.said(1);
  EXPECT_TRUE(lane.holds());
  lane.heard(1, true);
  EXPECT_FALSE(lane.holds());
  EXPECT_TRUE(lane.inwards());
  lane.said(kMost);
  EXPECT_TRUE(lane.holds());
}

TEST(ExpressLane, WhosePeerAnswersByTcpIsNotInIt) {
  ExpressLane lane;
  lane.expect();
  lane.said(kMost);
  lane.heard(1, false);
  lane.said(10 * kMost);
  EXPECT_FALSE(lane.holds());
}

TEST(ExpressLane, APeersDirectionMayLeaveByItself) {
  ExpressLane lane;
  EXPECT_FALSE(lane.outwards());
  lane.heard(1, true);
  EXPECT_TRUE(lane.outwards());
  lane.heard(1, false);
  EXPECT_FALSE(lane.inwards());
  EXPECT_TRUE(lane.outwards());
  lane.leave(-1);
  lane.said(10 * kMost);
  EXPECT_FALSE(lane.holds());
  lane.heard(1, false);
  EXPECT_FALSE(lane.outwards());
}

TEST(ExpressLane, AsksWhichWayBytesCameUntilItIsKnownAndAfterMuch) {
  ExpressLane lane;
  EXPECT_TRUE(lane.asks());
  lane.heard(1, true);
  EXPECT_FALSE(lane.asks());
  lane.heard(kMost - 1);
  EXPECT_TRUE(lane.inwards());
  EXPECT_TRUE(lane.asks());
  lane.said(1);
  EXPECT_FALSE(lane.asks());
}

}  // namespace
}  // namespace sluice::gateway
