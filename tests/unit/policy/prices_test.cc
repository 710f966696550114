#include "policy/prices.h"

#include <gmock/gmock.h>

namespace sluice::policy {
namespace {

TEST(Prices, AreByProviderThenByModelThenByTheLongestPattern) {
  const auto prices = Prices::parse(
      "gpt-5: { input: 1.25, output: 10, cached_input: 0.125 }\n"
      "azure/gpt-5: { input: 2, output: 20 }\n"
      "\"gpt-*\": { input: 3, output: 30 }\n"
      "\"*\": { input: 4, output: 40, cache_write: 5 }\n",
      "p.yaml");
  ASSERT_TRUE(prices);
  EXPECT_EQ(prices->find("openai", "gpt-5")->cached_input, 0.125);
  EXPECT_EQ(prices->find("openai", "gpt-5")->cache_write, 1.25);
  EXPECT_EQ(prices->find("azure", "gpt-5")->output, 20);
  EXPECT_EQ(prices->find("openai", "gpt-4")->input, 3);
  EXPECT_EQ(prices->find("openai", "other")->cache_write, 5);
  EXPECT_EQ(Prices{}.find("openai", "gpt-5"), nullptr);
}

TEST(Prices, SayWhereTheyAreWrong) {
  for (const auto& [text, said] :
       {std::pair{"a: { input: 1 }", "p.yaml:1:1: error: `a` has no price for both ways"},
        std::pair{"a: { input: 1, output: -2 }", "a.output is not a price"},
        std::pair{"a: { input: 1, output: 2, inptu: 3 }", "`inptu` is no price"},
        std::pair{"a: { input: 1, output: 2, input: 3 }", "error: `input` is there twice"},
        std::pair{
            "a: { input: 1, output: 2 }\nb: { input: 1, output: 2 }\na: { input: 3, output: 4 }",
            "p.yaml:3:1: error: `a` is there twice"},
        std::pair{"a: 5", "`a` is a map of prices"}}) {
    const auto prices = Prices::parse(text, "p.yaml");
    ASSERT_FALSE(prices) << text;
    EXPECT_THAT(prices.error().front().to_string(), ::testing::HasSubstr(said));
  }
}

}  // namespace
}  // namespace sluice::policy
