#include "gateway/redis/shared_accounts.h"

#include <gmock/gmock.h>
#include <hiredis/hiredis.h>

namespace sluice::gateway::redis {
namespace {

using ::testing::ElementsAre;

SharedTake one_of_each() {
  return {.rates = {{.key = "key:k1:tokens",
                     .interval_ns = 1'500,
                     .tolerance_ns = 3'000'000,
                     .cost = 700,
                     .ahead_ns = 2'000}},
          .sums = {{.key = "budget/a/day:86400",
                    .limit = 1000,
                    .amount = 30,
                    .spent = 12,
                    .ends = 172'800}}};
}

// A reply of integers, as hiredis would have read it.
class Reply {
 public:
  explicit Reply(std::vector<long long> numbers) : elements_(numbers.size()) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      elements_[i].type = REDIS_REPLY_INTEGER;
      elements_[i].integer = numbers[i];
      pointers_.push_back(&elements_[i]);
    }
    reply_.type = REDIS_REPLY_ARRAY;
    reply_.elements = pointers_.size();
    reply_.element = pointers_.data();
  }
  const redisReply* get() const { return &reply_; }
  redisReply& element(std::size_t index) { return elements_[index]; }

 private:
  std::vector<redisReply> elements_;
  std::vector<redisReply*> pointers_;
  redisReply reply_{};
};

TEST(SharedAccounts, AreAskedForInOneStep) {
  EXPECT_THAT(take_words(one_of_each(), "abc", "sluice"),
              ElementsAre("EVALSHA", "abc", "2", "sluice:key:k1:tokens",
                          "sluice:budget/a/day:86400", "1", "1.500", "3000.000", "700", "2.000",
                          "1000", "30", "259200", "12"));
}

TEST(SharedAccounts, AChargeSaysWhatItIsOf) {
  const SharedCharge sum{.key = "b", .more = -5, .held = 30, .spent = 7, .ends = 10};
  EXPECT_THAT(charge_words(sum, "abc", "p"),
              ElementsAre("EVALSHA", "abc", "1", "p:b", "0", "-5", "30", "86410", "7"));
}

TEST(SharedAccounts, WhatWasTakenIsGivenBackWhole) {
  const auto back = given_back(one_of_each());
  ASSERT_EQ(back.size(), 2U);
  EXPECT_EQ(back[0].more, -700);
  EXPECT_EQ(back[0].interval_ns, 1'500U);
  EXPECT_EQ(back[1].more, -30);
  EXPECT_EQ(back[1].held, 30);
}

TEST(SharedAccounts, AnAnswerIsReadOrIsNone) {
  const SharedTake take = one_of_each();
  const auto good = verdict_in(take, Reply({0, 1050, 42, 30}).get());
  ASSERT_TRUE(good);
  EXPECT_EQ(good->refused, SharedVerdict::kNone);
  EXPECT_THAT(good->ahead_ns, ElementsAre(1'050'000));
  EXPECT_EQ(good->sums[0].spent, 42);
  EXPECT_EQ(good->sums[0].held, 30);
  EXPECT_EQ(verdict_in(take, Reply({2, 0, 999, 0}).get())->refused, 1U);
  EXPECT_FALSE(verdict_in(take, nullptr));
  EXPECT_FALSE(verdict_in(take, Reply({0, 1050, 42}).get()));
  EXPECT_FALSE(verdict_in(take, Reply({3, 0, 0, 0}).get()));
  Reply odd({0, 1050, 42, 30});
  odd.element(1).type = REDIS_REPLY_NIL;
  EXPECT_FALSE(verdict_in(take, odd.get()));
}

}  // namespace
}  // namespace sluice::gateway::redis
