#include "gateway/ai/stream_filter.h"

#include <gmock/gmock.h>

namespace sluice::gateway::ai {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kOpenAi =
    "data: "
    "{\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
    "\"content\":\"\"},\"finish_reason\":null}]}\r\n\r\n"
    ": keep alive\r\n\r\n"
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},"
    "\"finish_reason\":null}]}\r\n\r\n"
    "data: "
    "{\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n";
const std::string kUsage =
    "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,"
    "\"prompt_tokens_details\":{\"cached_tokens\":2}}}\r\n\r\n";
const std::string kDone = "data: [DONE]\r\n\r\n";
const std::string kAnthropic =
    "event: message_start\ndata: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"model\":\"c\","
    "\"content\":[],\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":2,\"output_tokens\":"
    "1}}}\n\n"
    "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
    "\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n"
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
    "event: message_delta\ndata: "
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},"
    "\"usage\":{\"output_tokens\":9}}\n\n"
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const std::string kGemini =
    "data: "
    "{\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"Hi\"}]},\"index\":0}]"
    ","
    "\"modelVersion\":\"g\",\"usageMetadata\":{\"promptTokenCount\":4}}\n\n"
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\" "
    "you\"}]},\"index\":0,"
    "\"finishReason\":\"STOP\"}],\"modelVersion\":\"g\",\"usageMetadata\":{\"promptTokenCount\":4,"
    "\"candidatesTokenCount\":6,\"thoughtsTokenCount\":2}}\n\n";

struct Result {
  std::string out;
  std::optional<Problem> failure;
  Metered metered;
};

Result run(StreamFilter& filter, std::string_view bytes, std::size_t cut = 0) {
  Result result;
  if (cut > 0) filter.feed(bytes.substr(0, cut), result.out);
  filter.feed(bytes.substr(cut), result.out);
  filter.end(result.out);
  result.failure = filter.failure();
  result.metered = filter.metered();
  return result;
}

TEST(PassingFilter, HidesTheUsageThatWasAskedForByUsAndNothingElse) {
  const std::string whole = kOpenAi + kUsage + kDone;
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    SCOPED_TRACE(cut);
    const Result hidden = run(*passing_filter(Shape::openai, true), whole, cut);
    ASSERT_FALSE(hidden.failure);
    ASSERT_THAT(hidden.out, Not(HasSubstr("prompt_tokens")));
    ASSERT_EQ(hidden.out.size(), whole.size() - kUsage.size());
    ASSERT_EQ(hidden.metered.usage->input(), 7);
    ASSERT_EQ(hidden.metered.usage->cache_read, 2);
    ASSERT_EQ(hidden.metered.usage->output, 3);
    ASSERT_EQ(run(*passing_filter(Shape::openai, false), whole, cut).out, whole);
  }
}

TEST(PassingFilter, ReadsUsageOfEachShapeOnTheWayBy) {
  for (std::size_t cut = 0; cut < kAnthropic.size(); ++cut) {
    const Result result = run(*passing_filter(Shape::anthropic, false), kAnthropic, cut);
    ASSERT_EQ(result.out, kAnthropic);
    ASSERT_EQ(result.metered.usage->input(), 7);
    ASSERT_EQ(result.metered.usage->output, 9);
    ASSERT_EQ(result.metered.model, "c");
  }
  const Result gemini = run(*passing_filter(Shape::gemini, false), kGemini);
  EXPECT_EQ(gemini.out, kGemini);
  EXPECT_EQ(gemini.metered.usage->output, 8);
  EXPECT_EQ(gemini.metered.usage->reasoning, 2);
  EXPECT_EQ(gemini.metered.text_bytes, 6U);
}

TEST(PassingFilter, GivesNothingBeforeThereIsSomethingOfTheAnswer) {
  const auto filter = passing_filter(Shape::anthropic, false);
  std::string out;
  const std::size_t start = kAnthropic.find("event: content_block_start");
  filter->feed(kAnthropic.substr(0, start), out);
  EXPECT_THAT(out, IsEmpty());
  filter->feed(kAnthropic.substr(start), out);
  EXPECT_EQ(out, kAnthropic);
}

TEST(PassingFilter, WhateverOfTheAnswerComesFirstGoesOn) {
  for (const std::string_view delta :
       {R"("content":"","reasoning":"We")", R"("content":"","reasoning_content":"We")",
        R"("content":null,"refusal":"No")", R"("audio":{"id":"a","transcript":"We"})",
        R"("content":"","audio":{"id":"a"})", R"("content":"","images":[{"type":"image_url"}])"}) {
    const auto filter = passing_filter(Shape::openai, false);
    std::string out;
    filter->feed(R"(data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})"
                 "\n\n",
                 out);
    EXPECT_THAT(out, IsEmpty()) << delta;
    filter->feed(R"(data: {"choices":[{"index":0,"delta":{"role":"assistant",)" +
                     std::string(delta) + "}}]}\n\n",
                 out);
    EXPECT_THAT(out, HasSubstr(delta));
  }
}

TEST(PassingFilter, ThoughtsAreCountedAsWhatTheyCost) {
  const std::string bytes =
      R"(data: {"choices":[{"index":0,"delta":{"content":"","reasoning":"Let us see"}}]})"
      "\n\n";
  EXPECT_EQ(run(*passing_filter(Shape::openai, false), bytes).metered.text_bytes, 10U);
}

TEST(PassingFilter, ACutStreamIsNotWhole) {
  for (const auto& [shape, whole] :
       {std::pair{
            Shape::openai,
            kOpenAi.substr(
                0, kOpenAi.find("data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},"))},
        std::pair{Shape::anthropic, kAnthropic.substr(0, kAnthropic.find("event: message_stop"))},
        std::pair{Shape::gemini, kGemini.substr(0, kGemini.find("data: {", 10))}}) {
    const Result result = run(*passing_filter(shape, false), whole);
    EXPECT_TRUE(result.failure);
  }
}

TEST(PassingFilter, AnErrorInTheFirstEventLeavesTheCallerWithoutAByte) {
  for (const auto& [shape, event] :
       {std::pair{Shape::openai, std::string("data: {\"error\":{\"message\":\"no\"}}\n\n")},
        std::pair{Shape::anthropic,
                  std::string("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
                              "\"overloaded_error\",\"message\":\"no\"}}\n\n")},
        std::pair{Shape::gemini, std::string("data: {\"error\":{\"message\":\"no\"}}\n\n")}}) {
    const Result result = run(*passing_filter(shape, false), event);
    ASSERT_TRUE(result.failure);
    EXPECT_EQ(result.failure->message, "no");
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST(PassingFilter, ALastEventMayLackItsEmptyLine) {
  for (const auto& [shape, whole] :
       {std::pair{Shape::openai, kOpenAi + kDone}, std::pair{Shape::anthropic, kAnthropic},
        std::pair{Shape::gemini, kGemini}}) {
    const std::string bare = whole.substr(0, whole.find_last_not_of("\r\n") + 1);
    for (const std::string& bytes : {bare, bare + "\n"}) {
      const Result same = run(*passing_filter(shape, false), bytes, bytes.size() / 2);
      EXPECT_FALSE(same.failure);
      EXPECT_EQ(same.out, bytes + "\n\n");
      for (const Shape to : {Shape::openai, Shape::anthropic, Shape::gemini}) {
        if (to == shape) continue;
        const Result other = run(*translating_filter(shape, to, {}), bytes);
        EXPECT_FALSE(other.failure);
        EXPECT_EQ(other.out, run(*translating_filter(shape, to, {}), whole).out);
      }
    }
  }
}

TEST(PassingFilter, HalfOfALastEventIsNone) {
  for (const auto& [shape, whole] :
       {std::pair{Shape::anthropic, kAnthropic}, std::pair{Shape::gemini, kGemini}}) {
    const Result result = run(*passing_filter(shape, false), whole.substr(0, whole.size() - 4));
    EXPECT_TRUE(result.failure);
    EXPECT_THAT(result.out, Not(HasSubstr("message_stop")));
  }
}

TEST(PassingFilter, TheUsageThatWasAskedForByUsIsHiddenAlsoWithoutItsEmptyLine) {
  const std::string bytes = kOpenAi + kUsage.substr(0, kUsage.size() - 4);
  const Result hidden = run(*passing_filter(Shape::openai, true), bytes);
  EXPECT_FALSE(hidden.failure);
  EXPECT_EQ(hidden.out, kOpenAi);
  EXPECT_EQ(hidden.metered.usage->input(), 7);
}

const std::string kPicture =
    "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\","
    "\"b64_json\":\"AAAA\"}\n\n"
    "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\","
    "\"b64_json\":\"AAAA\",\"usage\":{\"input_tokens\":7,\"output_tokens\":40,"
    "\"input_tokens_details\":{\"text_tokens\":7}}}\n\n";

TEST(OpenEndedFilter, GivesEachByteAtOnceAndIsWholeWithoutALastWord) {
  const auto filter = open_ended_filter(Shape::openai);
  for (const char byte : kPicture) {
    std::string out;
    filter->feed({&byte, 1}, out);
    ASSERT_EQ(out, std::string(1, byte));
  }
  std::string out;
  filter->end(out);
  EXPECT_THAT(out, IsEmpty());
  EXPECT_FALSE(filter->failure());
  EXPECT_EQ(filter->metered().usage->input(), 7);
  EXPECT_EQ(filter->metered().usage->output, 40);
}

TEST(OpenEndedFilter, ReadsUsageAlsoOfWhatAnEventIsAbout) {
  const std::string bytes =
      "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{"
      "\"model\":\"m\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4,"
      "\"output_tokens_details\":{}}}}\n\n";
  const Result result = run(*open_ended_filter(Shape::openai), bytes);
  EXPECT_EQ(result.out, bytes);
  EXPECT_EQ(result.metered.usage->output, 4);
  EXPECT_EQ(result.metered.model, "m");
}

TEST(OpenEndedFilter, PassesWhatIsTooLargeToBeLookedAt) {
  const std::string bytes = "data: " + std::string(SseParser::kMaxEvent + 1, 'x') + "\n\n";
  const Result result = run(*open_ended_filter(Shape::openai), bytes + kPicture);
  EXPECT_EQ(result.out, bytes + kPicture);
  EXPECT_FALSE(result.failure);
}

TEST(TranslatingFilter, IsTheSameWhereverTheStreamIsCut) {
  const std::map<Shape, std::string> streams{{Shape::openai, kOpenAi + kUsage + kDone},
                                             {Shape::anthropic, kAnthropic},
                                             {Shape::gemini, kGemini}};
  for (const auto& [from, bytes] : streams) {
    for (const auto& [to, unused] : streams) {
      if (from == to) continue;
      const Result whole = run(*translating_filter(from, to, {}), bytes);
      ASSERT_FALSE(whole.failure);
      ASSERT_FALSE(whole.out.empty());
      for (std::size_t cut = 1; cut < bytes.size(); ++cut)
        ASSERT_EQ(run(*translating_filter(from, to, {}), bytes, cut).out, whole.out);
    }
  }
}

TEST(TranslatingFilter, ACutOneHasNoEnd) {
  const std::string cut = kAnthropic.substr(0, kAnthropic.find("event: message_delta"));
  const Result result = run(*translating_filter(Shape::anthropic, Shape::openai, {}), cut);
  EXPECT_TRUE(result.failure);
  EXPECT_THAT(result.out, HasSubstr("Hi"));
  EXPECT_THAT(result.out, Not(HasSubstr("[DONE]")));
  EXPECT_THAT(result.out, Not(HasSubstr("\"finish_reason\":\"stop\"")));
}

// Gemini's calls are objects: there, arguments that are not JSON cannot be said.
TEST(TranslatingFilter, WhatTheOtherShapeCannotSayIsAFailure) {
  const std::string call =
      "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{"
      "\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
      "\"{;\"}}]},\"finish_reason\":null}]}\n\n"
      "data: "
      "{\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}"
      "\n\ndata: [DONE]\n\n";
  const auto filter = translating_filter(Shape::openai, Shape::gemini, {});
  const Result result = run(*filter, call);
  ASSERT_TRUE(result.failure.has_value());
  EXPECT_THAT(result.failure->message, HasSubstr("arguments of the call of f"));
  EXPECT_THAT(result.out, Not(HasSubstr("finishReason")));
}

TEST(TranslatingFilter, GeminisCallersWithoutSseGetAList) {
  const Result result =
      run(*translating_filter(Shape::anthropic, Shape::gemini, {.writer = {}, .as_array = true}),
          kAnthropic);
  EXPECT_TRUE(result.out.starts_with("[{"));
  EXPECT_TRUE(result.out.ends_with("}]"));
  EXPECT_THAT(result.out, Not(HasSubstr("data:")));
}

}  // namespace
}  // namespace sluice::gateway::ai
