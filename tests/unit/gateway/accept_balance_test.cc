// Which worker a new connection goes to. What happens on the way is in
// tests/system/test_accept_balance.py.
#include "gateway/accept_balance.h"

#include <gtest/gtest.h>
#include <thread>
#include <vector>

namespace sluice::gateway {
namespace {

// Connections of each worker, when all of `count` are accepted by the first.
std::vector<std::uint32_t> dealt(std::uint32_t workers, int count) {
  AcceptBalance balance(workers);
  for (int i = 0; i < count; ++i)
    balance.place(0);
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
  for (int i = 0; i < 1000; ++i)
    balance.place(0);
  EXPECT_EQ(balance.place(1), 1U) << "who has fewer keeps its own";
}

TEST(AcceptBalance, WhoAcceptsAtOnceDoesNotChooseTheSame) {
  for (int round = 0; round < 200; ++round) {
    AcceptBalance balance(3);
    std::vector<std::jthread> workers;
    for (std::uint32_t i = 0; i < 3; ++i)
      workers.emplace_back([&balance, i] {
        for (int accepted = 0; accepted < 3; ++accepted)
          balance.place(i);
      });
    workers.clear();
    for (std::uint32_t i = 0; i < 3; ++i)
      ASSERT_EQ(balance.open(i), 3U);
  }
}

}  // namespace
}  // namespace sluice::gateway
