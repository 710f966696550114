// How much a model is to think, between the vendors' ways of saying it.
#include <gmock/gmock.h>

#include "tests/unit/ai/translating.h"

namespace sluice::gateway::ai {
namespace {

std::string with_effort(std::string_view effort) {
  return R"({"model":"m","max_tokens":100,"messages":[{"role":"user","content":"x"}],)"
         R"("reasoning_effort":")" +
         std::string(effort) + "\"}";
}

constexpr std::array<std::string_view, 6> kUpwards{"minimal", "low",   "medium",
                                                   "high",    "xhigh", "max"};

TEST(Effort, MoreOfItIsNeverLessThinking) {
  for (const auto& [shape, where] :
       {std::pair{Shape::anthropic, "/thinking/budget_tokens"},
        {Shape::gemini, "/generationConfig/thinkingConfig/thinkingBudget"}}) {
    std::int64_t before = -1;
    for (const std::string_view effort : kUpwards) {
      const std::string budget = at(request(Shape::openai, shape, with_effort(effort)), where);
      const std::int64_t tokens = budget == "none" ? 0 : std::stoll(budget);
      EXPECT_GE(tokens, before) << effort;
      before = tokens;
    }
    EXPECT_GE(before, 16384);
  }
}

TEST(Effort, AnthropicsOwnWordsMeanTheSame) {
  const auto budget = [](std::string_view effort) {
    const std::string body = R"({"model":"m","max_tokens":100,"output_config":{"effort":")" +
                             std::string(effort) +
                             R"("},"messages":[{"role":"user","content":"x"}]})";
    return std::stoll(at(request(Shape::anthropic, Shape::gemini, body),
                         "/generationConfig/thinkingConfig/thinkingBudget"));
  };
  EXPECT_GE(budget("max"), budget("xhigh"));
  EXPECT_GE(budget("xhigh"), budget("high"));
  EXPECT_GT(budget("high"), budget("low"));
}

TEST(Effort, EachServiceGetsAWordThatItKnows) {
  const auto said = [](std::string_view effort, Dialect dialect) {
    WriteOptions options;
    options.dialect = dialect;
    return at(request(Shape::openai, Shape::openai, with_effort(effort), options),
              "/reasoning_effort");
  };
  for (const std::string_view effort : kUpwards)
    EXPECT_EQ(said(effort, Dialect::openai), effort);
  EXPECT_EQ(said("max", Dialect::mistral), "xhigh");
  EXPECT_EQ(said("high", Dialect::mistral), "high");
  EXPECT_EQ(said("max", Dialect::compatible), "high");
  EXPECT_EQ(said("medium", Dialect::compatible), "medium");
  EXPECT_EQ(said("minimal", Dialect::compatible), "low");
}

TEST(Effort, AnUnknownWordIsNamed) {
  for (const Shape to : {Shape::openai, Shape::anthropic, Shape::gemini}) {
    const auto out = translate_request(Shape::openai, to, with_effort("banana"));
    ASSERT_FALSE(out);
    EXPECT_EQ(out.error().field, "reasoning_effort");
  }
  const json::object out = request(Shape::gemini, Shape::anthropic, R"({"contents":[
    {"parts":[{"text":"x"}]}],"generationConfig":{"thinkingConfig":{
      "thinkingLevel":"THINKING_LEVEL_UNSPECIFIED"}}})");
  EXPECT_FALSE(out.contains("thinking"));
}

}  // namespace
}  // namespace sluice::gateway::ai
