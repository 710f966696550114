#include "gateway/http2/flood.h"

#include <gtest/gtest.h>

namespace sluice::gateway::http2 {
namespace {

int admitted(FloodGuard& guard, Abuse kind, std::uint64_t now, int tries) {
  int count = 0;
  for (int i = 0; i < tries; ++i)
    count += guard.admit(kind, now) ? 1 : 0;
  return count;
}

TEST(FloodGuard, ABurstIsAdmittedAndThenARate) {
  FloodGuard guard(1000);
  EXPECT_EQ(admitted(guard, Abuse::ping, 1000, 100), 32);
  EXPECT_EQ(admitted(guard, Abuse::ping, 1400, 100), 0);
  EXPECT_EQ(admitted(guard, Abuse::ping, 1500, 100), 1);
  EXPECT_EQ(admitted(guard, Abuse::ping, 1000 * 1000, 100), 32);
}

TEST(FloodGuard, KindsAreCountedApart) {
  FloodGuard guard(0);
  EXPECT_EQ(admitted(guard, Abuse::rapid_reset, 0, 1000), 200);
  EXPECT_TRUE(guard.admit(Abuse::settings, 0));
}

TEST(FloodGuard, ResetsThatComeTooLateAreNoRapidResets) {
  FloodGuard guard(0);
  EXPECT_EQ(admitted(guard, Abuse::reset, 0, 1000), 500);
  EXPECT_TRUE(guard.admit(Abuse::rapid_reset, 0));
}

TEST(FloodGuard, APingASecondIsNoFlood) {
  FloodGuard guard(0);
  for (std::uint64_t second = 0; second < 10'000; ++second)
    ASSERT_TRUE(guard.admit(Abuse::ping, second * 1000));
}

TEST(FloodGuard, EachKindHasAName) {
  for (std::size_t i = 0; i < kAbuses; ++i)
    EXPECT_FALSE(name(static_cast<Abuse>(i)).empty());
}

}  // namespace
}  // namespace sluice::gateway::http2
