#include "gateway/main/hang_watch.h"

#include <gtest/gtest.h>

namespace sluice::control {
namespace {

using namespace std::chrono_literals;

class HangWatchTest : public testing::Test {
 protected:
  // Seconds that go by, one call each; the one at which it hangs, 0: none.
  int silent(int seconds) {
    for (int i = 1; i <= seconds; ++i) {
      now_ += 1s;
      if (watch_.hangs(false, now_)) return i;
    }
    return 0;
  }

  HangWatch watch_;
  HangWatch::Clock::time_point now_{};
};

TEST_F(HangWatchTest, SilenceForSoLongAndNotLess) {
  EXPECT_FALSE(watch_.hangs(true, now_));
  EXPECT_EQ(silent(20), 0);
  EXPECT_FALSE(watch_.hangs(true, now_ += 1s));
  EXPECT_EQ(silent(60), 21);
}

TEST_F(HangWatchTest, SaysSoAgainWhenTheNextOneHangsToo) {
  EXPECT_FALSE(watch_.hangs(true, now_));
  EXPECT_EQ(silent(60), 21);
  EXPECT_EQ(silent(60), 21);
}

TEST_F(HangWatchTest, WhoWasStoppedItselfSaysNothingOfOthers) {
  EXPECT_FALSE(watch_.hangs(true, now_));
  EXPECT_EQ(silent(15), 0);
  now_ += 1h;
  EXPECT_EQ(silent(20), 0);
}

}  // namespace
}  // namespace sluice::control
