#include <gmock/gmock.h>
#include <limits>

#include "gateway/ai/proxy/accounting.h"
#include "gateway/ai/proxy/vendor_body.h"

namespace sluice::gateway::ai {
namespace {

constexpr Endpoint kChat{
    .operation = Operation::chat, .path = "/chat/completions", .version = "v1"};

TEST(CallerBody, WhatAnAnswerMayHaveStaysANumberThatCosts) {
  constexpr std::uint64_t kMost = 1'000'000'000;
  for (const char* limits : {R"("max_tokens":1000000000,"n":1000000000)",
                             R"("max_tokens":9223372036854775807,"n":9223372036854775807)"}) {
    const CallerBody body("{" + std::string(limits) + "}", kChat);
    EXPECT_EQ(body.estimate().answer, kMost) << limits;
  }
  policy::Price price;
  price.input = price.output = 1e6;
  Usage usage;
  usage.output = static_cast<std::int64_t>(kMost);
  EXPECT_EQ(cost_of(usage, price), 1'000'000'000'000'000);
  usage.uncached = usage.output = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(cost_of(usage, price), 1'000'000'000'000'000);
}

TEST(CallerBody, GeminisPathsSayWhomACallIsForAndNotTheBody) {
  const char* text = R"({"model":"gemini-flash"})";
  for (const std::string_view path :
       {"/v1beta/tunedModels/mine:generateContent", "/v1beta/tunedModels/mine%3AgenerateContent"}) {
    const auto endpoint = parse_endpoint(path, {});
    EXPECT_EQ(CallerBody(text, *endpoint).model(), "") << path;
  }
  const auto caching = parse_endpoint("/v1beta/cachedContents", {});
  EXPECT_EQ(CallerBody(text, *caching).model(), "gemini-flash");
}

TEST(CallerBody, GeminisBodiesPutModelsBeforeANameAndKeepIt) {
  const auto caching = parse_endpoint("/v1beta/cachedContents", {});
  Provider gemini;
  gemini.kind = policy::AiKind::gemini;
  gemini.shape = Shape::gemini;
  for (const std::string prefix : {"models/", ""}) {
    const std::string text = R"({"model":")" + prefix + R"(fast","ttl":"60s"})";
    CallerBody body(text, *caching);
    EXPECT_EQ(body.model(), "fast");
    EXPECT_EQ(body.for_target(gemini, "fast", false)->text(), text);
    EXPECT_EQ(body.for_target(gemini, "gemini-2", false)->text(),
              R"({"model":")" + prefix + R"(gemini-2","ttl":"60s"})");
  }
}

// Services read counts as leniently as this.
TEST(CallerBody, CountsAreReadHoweverTheyAreWritten) {
  const auto endpoint = parse_endpoint("/v1beta/models/m:generateContent", {});
  for (const char* said : {"3000", "3000.0", "\"3000\"", "\"3000.0\"", "3e3", "2999.5"}) {
    const std::string count(said);
    EXPECT_EQ(CallerBody(R"({"max_tokens":)" + count + "}", kChat).estimate().answer, 3000) << said;
    EXPECT_EQ(CallerBody(R"({"max_tokens":2,"n":)" + count + "}", kChat).estimate().answer, 6000)
        << said;
    for (const char* key : {"maxOutputTokens", "max_output_tokens"})
      EXPECT_EQ(CallerBody(R"({"generationConfig":{")" + std::string(key) + "\":" + count + "}}",
                           *endpoint)
                    .estimate()
                    .answer,
                3000)
          << said;
  }
  for (const char* most :
       {"1e300", "\"1e300\"", "18446744073709551615", "1e999", "\"99999999999999999999999\""})
    EXPECT_EQ(CallerBody(R"({"max_tokens":)" + std::string(most) + "}", kChat).estimate().answer,
              1'000'000'000)
        << most;
  const std::uint64_t usual = CallerBody("{}", kChat).estimate().answer;
  for (const char* none : {"0", "-1", "-1.5", "null", "true", "\"many\"", "\"nan\"", "[5]"})
    EXPECT_EQ(CallerBody(R"({"max_tokens":)" + std::string(none) + "}", kChat).estimate().answer,
              usual)
        << none;
}

constexpr Endpoint kCompletions{
    .operation = Operation::other, .path = "/completions", .version = "v1"};

TEST(CallerBody, OlderCompletionsHaveAnAnswerForEachPromptAndTheBestOfMany) {
  const auto answer = [](const std::string& members) {
    return CallerBody(R"({"max_tokens":10,)" + members + "}", kCompletions).estimate().answer;
  };
  EXPECT_EQ(answer(R"("prompt":"a")"), 10);
  EXPECT_EQ(answer(R"("prompt":"a","best_of":20)"), 200);
  EXPECT_EQ(answer(R"("prompt":"a","best_of":2,"n":"3")"), 30);
  EXPECT_EQ(answer(R"("prompt":["a","b"],"n":2)"), 40);
  EXPECT_EQ(answer(R"("prompt":[[1,2],[3]])"), 20);
  EXPECT_EQ(answer(R"("prompt":[1,2,3])"), 10);  // one, as tokens
  EXPECT_EQ(answer(R"("prompt":[])"), 10);
}

TEST(CallerBody, OlderCompletionsAreAskedForTheirUsageToo) {
  Provider openai;
  openai.kind = policy::AiKind::openai;
  openai.shape = Shape::openai;
  for (const std::string own : {"", R"(,"stream_options":{"include_usage":true})"}) {
    CallerBody body(R"({"model":"m","prompt":"a","stream":true)" + own + "}", kCompletions);
    const auto sent = body.for_target(openai, "m", false);
    EXPECT_NE(sent->text().find(R"("include_usage":true)"), std::string::npos);
    EXPECT_EQ(sent->hide_usage, own.empty());
  }
}

TEST(CallerBody, ADeepSchemaOfAToolIsTranslated) {
  std::string schema = R"({"type":"string"})";
  for (int level = 0; level < 24; ++level)
    schema = R"({"type":"object","properties":{"p":)" + schema + "}}";
  CallerBody body(R"({"model":"m","messages":[{"role":"user","content":"u"}],"tools":[{"type":)"
                  R"("function","function":{"name":"t","parameters":)" +
                      schema + "}}]}",
                  kChat);
  ASSERT_TRUE(body.is_object());
  Provider provider;
  provider.kind = policy::AiKind::anthropic;
  provider.shape = Shape::anthropic;
  const auto written = body.for_target(provider, "m", false);
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_THAT(std::string(written->text()), testing::HasSubstr(schema));
}

}  // namespace
}  // namespace sluice::gateway::ai
