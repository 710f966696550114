// Which worker a new connection goes to. What happens on the way is in
// tests/system/test_accept_balance.py.
#include "gateway/accept_balance.h"

#include <vector>

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

// Connections of each worker, when all of `count` are accepted by the first.
std::vector<std::uint32_t> dealt(std::uint32_t workers, int count) {
  AcceptBalance balance(workers);
  for (int i = 0; i < count; ++i)
    balance.opened(balance.lighter(0).value_or(0));
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < workers; ++i)
    out.push_back(balance.open(i));
  return out;
}

TEST(AcceptBalance, OneWorkerKeepsWhatItGets) {
  EXPECT_EQ(dealt(1, 10), std::vector<std::uint32_t>{10});
}

TEST(AcceptBalance, FewAreSharedEvenly) {
  EXPECT_EQ(dealt(2, 2), (std::vector<std::uint32_t>{1, 1}));
  EXPECT_EQ(dealt(2, 8), (std::vector<std::uint32_t>{4, 4}));
  EXPECT_EQ(dealt(3, 9), (std::vector<std::uint32_t>{3, 3, 3}));
}

TEST(AcceptBalance, OfManyAQuarterMoreIsLetBe) {
  const auto shares = dealt(2, 1000);
  EXPECT_LE(shares[0], shares[1] + shares[1] / 4 + 1);
  EXPECT_GE(shares[0], shares[1]);
  AcceptBalance balance(2);
  for (int i = 0; i < 100; ++i)
    balance.opened(1);
  for (int i = 0; i < 125; ++i)
    balance.opened(0);
  EXPECT_EQ(balance.lighter(0), std::nullopt);
  balance.opened(0);
  EXPECT_EQ(balance.lighter(0), 1U);
  EXPECT_EQ(balance.lighter(1), std::nullopt);
}

}  // namespace
}  // namespace sluice::gateway
