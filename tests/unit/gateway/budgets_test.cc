#include "gateway/ai/proxy/budgets.h"

#include <atomic>
#include <gmock/gmock.h>
#include <map>
#include <thread>

#include "gateway/ai/proxy/calendar.h"
#include "gateway/ai/proxy/scope.h"

namespace sluice::gateway::ai {
namespace {

using policy::AiPeriod;

constexpr std::int64_t kSaturday = 1'764'374'400;  // 2025-11-29 00:00 UTC
constexpr std::int64_t kDay = 86'400;

// What a book says has been spent, and what it is told that others have.
struct Books {
  std::map<std::pair<std::string, std::int64_t>, std::int64_t> spent;
  std::int64_t elsewhere = 0;
  BudgetBook book{[this](const std::string& account, std::int64_t period, std::int64_t micros) {
                    spent[{account, period}] += micros;
                  },
                  [this](const std::string&, std::int64_t) { return elsewhere; }};
};

std::vector<BudgetUse> daily(std::int64_t limit) {
  return {{.account = "a", .what = "budget a", .limit = limit, .period = AiPeriod::day}};
}

TEST(Calendar, PeriodsBeginAndEndInUtc) {
  EXPECT_EQ(day_text(kSaturday + 5), "2025-11-29");
  EXPECT_EQ(period_start(AiPeriod::hour, kSaturday + 3599), kSaturday);
  EXPECT_EQ(next_period(AiPeriod::hour, kSaturday + 3599), kSaturday + 3600);
  EXPECT_EQ(period_start(AiPeriod::day, kSaturday + 5), kSaturday);
  EXPECT_EQ(day_text(period_start(AiPeriod::week, kSaturday)), "2025-11-24");
  EXPECT_EQ(day_text(next_period(AiPeriod::week, kSaturday)), "2025-12-01");
  EXPECT_EQ(day_text(period_start(AiPeriod::week, kSaturday + 2 * kDay)), "2025-12-01");
  EXPECT_EQ(day_text(period_start(AiPeriod::month, kSaturday)), "2025-11-01");
  EXPECT_EQ(day_text(next_period(AiPeriod::month, kSaturday + 32 * kDay)), "2026-01-01");
}

TEST(Scope, EveryListMustNameTheCall) {
  const policy::AiScope scope{.keys = {}, .teams = {"red"}, .models = {"gpt-*"}, .routes = {}};
  EXPECT_TRUE(covers(scope, {.team = "red", .model = "gpt-5"}));
  EXPECT_FALSE(covers(scope, {.team = "blue", .model = "gpt-5"}));
  EXPECT_FALSE(covers(scope, {.team = "red", .model = "claude"}));
  EXPECT_TRUE(covers({}, {}));
}

TEST(Budgets, WhatIsHeldIsGivenBackAndWhatWasUsedIsSpent) {
  Books books;
  {
    BudgetHold first;
    EXPECT_FALSE(books.book.hold(daily(1000), 700, kSaturday, first));
    BudgetHold second;
    const auto refused = books.book.hold(daily(1000), 400, kSaturday + 10, second);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->left, 300);
    EXPECT_EQ(refused->ends, kSaturday + kDay);
    EXPECT_TRUE(refused->for_now);
    first.settle(100);
    EXPECT_FALSE(books.book.hold(daily(1000), 900, kSaturday + 20, second));
  }  // the second one has come to nothing
  EXPECT_EQ(books.book.taken(daily(1000).front(), kSaturday), 100);
  EXPECT_EQ((books.spent[{"a", kSaturday}]), 100);
  BudgetHold third;
  const auto refused = books.book.hold(daily(1000), 901, kSaturday, third);
  ASSERT_TRUE(refused);
  EXPECT_FALSE(refused->for_now);
}

TEST(Budgets, WhatOneRefusesTakesFromNoOther) {
  Books books;
  auto both = daily(1000);
  both.push_back({.account = "b", .what = "b", .limit = 10, .period = AiPeriod::month});
  BudgetHold hold;
  const auto refused = books.book.hold(both, 20, kSaturday, hold);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->what, "b");
  EXPECT_TRUE(hold.empty());
  EXPECT_EQ(books.book.taken(both[0], kSaturday), 0);
}

TEST(Budgets, ACallIsOfThePeriodInWhichItBegan) {
  Books books;
  BudgetHold old;
  EXPECT_FALSE(books.book.hold(daily(1000), 800, kSaturday + kDay - 1, old));
  BudgetHold next;
  EXPECT_FALSE(books.book.hold(daily(1000), 1000, kSaturday + kDay, next));
  old.settle(900);
  EXPECT_EQ((books.spent[{"a", kSaturday}]), 900);
  EXPECT_EQ(books.book.taken(daily(1000).front(), kSaturday + kDay), 1000);
}

// Threads look at the clock on their own: one may come to an account that is in its next period.
TEST(Budgets, WhatComesLateIsHeldInThePeriodThatHasBegunAndGivenBackThere) {
  Books books;
  BudgetHold next;
  EXPECT_FALSE(books.book.hold(daily(1000), 100, kSaturday + kDay, next));
  {
    BudgetHold late;
    EXPECT_FALSE(books.book.hold(daily(1000), 800, kSaturday + kDay - 1, late));
    BudgetHold more;
    EXPECT_TRUE(books.book.hold(daily(1000), 200, kSaturday + kDay, more));
    late.settle(300);
  }
  EXPECT_EQ(books.book.taken(daily(1000).front(), kSaturday + kDay), 400);
  EXPECT_EQ((books.spent[{"a", kSaturday + kDay}]), 300);
}

TEST(Budgets, WhatOthersHaveSpentCounts) {
  Books books;
  books.elsewhere = 600;
  BudgetHold hold;
  EXPECT_TRUE(books.book.hold(daily(1000), 500, kSaturday, hold));
  EXPECT_FALSE(books.book.hold(daily(1000), 400, kSaturday, hold));
  books.elsewhere = 900;
  books.book.refresh();
  hold.settle(300);  // more than was there: it has been used
  EXPECT_EQ(books.book.taken(daily(1000).front(), kSaturday), 1200);
}

// The bound: however many ask at a time, what is spent is at most the budget, and what calls have
// cost beyond their estimates.
TEST(Budgets, ManyThreadsOverspendByNoMoreThanTheirEstimatesWereShort) {
  constexpr std::int64_t kBudget = 1000;
  constexpr std::int64_t kEstimate = 7;
  constexpr std::int64_t kUsed = 9;
  std::atomic<std::int64_t> spent{0};
  std::atomic<int> under_way{0};
  std::atomic<int> most{0};
  BudgetBook book{[&](const std::string&, std::int64_t, std::int64_t micros) { spent += micros; },
                  [](const std::string&, std::int64_t) { return 0; }};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        BudgetHold hold;
        if (book.hold(daily(kBudget), kEstimate, kSaturday, hold)) continue;
        const int now = ++under_way;
        int seen = most;
        while (seen < now && !most.compare_exchange_weak(seen, now)) {
        }
        std::this_thread::yield();
        --under_way;
        hold.settle(kUsed);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_GT(spent, kBudget - kUsed);
  EXPECT_LE(spent, kBudget + 8 * (kUsed - kEstimate)) << most << " at a time";
}

TEST(Budgets, WhatRedisHasOfAllGatewaysIsNotCountedTwice) {
  Books books;
  const auto budget = daily(1000);
  {
    BudgetHold hold;  // 300 of others, of which 100 are held, and these 200
    books.book.note(budget, {{.spent = 500, .held = 300}}, 200, kSaturday, hold);
    EXPECT_EQ(books.book.taken(budget[0], kSaturday), 500);
    EXPECT_EQ(books.book.settled(budget[0], kSaturday), 200);
    hold.settle(50);
  }
  EXPECT_EQ(books.book.taken(budget[0], kSaturday), 350);
  EXPECT_EQ(books.book.settled(budget[0], kSaturday), 250);  // what others held may have come free
  // The file knows of some of it too.
  books.elsewhere = 120;
  books.book.refresh();
  EXPECT_EQ(books.book.taken(budget[0], kSaturday), 350);
  EXPECT_EQ(books.book.settled(budget[0], kSaturday + kDay), 120);  // of the next period that alone
}

TEST(Budgets, WhoCannotAskTheOthersHasAShareOfWhatIsLeft) {
  Books books;
  std::vector<BudgetUse> budget = daily(1000);
  {
    BudgetHold hold;
    books.book.note(budget, {{.spent = 100, .held = 100}}, 100, kSaturday, hold);
    hold.settle(100);
  }
  // A third of what was left, however often it is asked for.
  for (int i = 0; i < 3; ++i) {
    budget = daily(1000);
    books.book.share(budget, 3, kSaturday);
    EXPECT_EQ(budget[0].limit, 400);
    BudgetHold hold;
    EXPECT_FALSE(books.book.hold(budget, 100, kSaturday, hold));
    hold.settle(100);
  }
  BudgetHold more;
  EXPECT_TRUE(books.book.hold(budget, 1, kSaturday, more));
}

TEST(Budgets, BeyondTheMostThoseThatAreNewShareOne) {
  Books books;
  std::vector<BudgetUse> one = daily(1000);
  for (std::size_t i = 0; i <= BudgetBook::kMostAccounts; ++i) {
    one[0].account = "k" + std::to_string(i);
    BudgetHold hold;
    ASSERT_FALSE(books.book.hold(one, 1, kSaturday, hold));
  }
  EXPECT_EQ(books.book.size(), BudgetBook::kMostAccounts + 1);
  // A month begins before its days do, and is not over with them.
  one[0] = {.account = "m", .what = "m", .limit = 1000, .period = AiPeriod::month};
  {
    BudgetHold hold;
    ASSERT_FALSE(books.book.hold(one, 700, kSaturday, hold));
  }
  EXPECT_EQ(books.book.taken(one[0], kSaturday), 0);
  BudgetHold whole;
  EXPECT_FALSE(books.book.hold(one, 1000, kSaturday, whole));
  whole.settle(0);
  EXPECT_EQ(books.book.size(), BudgetBook::kMostAccounts + 2);
  books.book.sweep(kSaturday + 40 * kDay);
  EXPECT_EQ(books.book.size(), 0U);
}

TEST(Budgets, DollarsAreShownAsPeopleWriteThem) {
  EXPECT_EQ(dollars_text(12'340'000), "$12.34");
  EXPECT_EQ(dollars_text(0), "$0.00");
  EXPECT_EQ(dollars_text(1'234), "$0.001234");
}

}  // namespace
}  // namespace sluice::gateway::ai
