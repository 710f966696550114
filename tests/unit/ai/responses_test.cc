// OpenAI's Responses API passes byte for byte; what is read of it is who answered, what it took, and
// whether it is whole.
#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/meter.h"
#include "gateway/ai/stream_filter.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kCreated =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\","
    "\"object\":\"response\",\"model\":\"gpt-5-2025\",\"usage\":null,\"error\":null}}\n\n";
constexpr std::string_view kText =
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\","
    "\"output_index\":0,\"content_index\":0,\"delta\":\"Hello \\\"you\\\"\"}\n\n";
constexpr std::string_view kDone =
    "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":"
    "\"Hello you\"}\n\n";
constexpr std::string_view kCompleted =
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":"
    "\"resp_1\",\"model\":\"gpt-5-2025\",\"usage\":{\"input_tokens\":20,\"input_tokens_details\":{"
    "\"cached_tokens\":4},\"output_tokens\":10,\"output_tokens_details\":{\"reasoning_tokens\":3},"
    "\"total_tokens\":30}}}\n\n";

std::string text_of_all() {
  return std::string(kCreated) + std::string(kText) + std::string(kDone) + std::string(kCompleted);
}

TEST(Responses, HasAnEndpointOfItsOwn) {
  const auto endpoint = parse_endpoint("/v1/responses", {});
  ASSERT_TRUE(endpoint);
  EXPECT_EQ(endpoint->operation, Operation::responses);
  EXPECT_EQ(parse_endpoint("/v1/responses/resp_1", {})->operation, Operation::other);
  EXPECT_EQ(parse_endpoint("/team/responses", {})->operation, Operation::responses);
}

TEST(Responses, AStreamPassesByteForByteWhereverItIsCut) {
  const std::string text = text_of_all();
  for (std::size_t at = 0; at <= text.size(); ++at) {
    const auto filter = passing_filter(Shape::openai, true);
    std::string out;
    filter->feed(std::string_view(text).substr(0, at), out);
    filter->feed(std::string_view(text).substr(at), out);
    filter->end(out);
    ASSERT_FALSE(filter->failure()) << at;
    ASSERT_EQ(out, text) << at;
    const Metered& metered = filter->metered();
    ASSERT_TRUE(metered.usage);
    EXPECT_EQ(metered.usage->uncached, 16);
    EXPECT_EQ(metered.usage->cache_read, 4);
    EXPECT_EQ(metered.usage->output, 10);
    EXPECT_EQ(metered.usage->reasoning, 3);
    EXPECT_EQ(metered.model, "gpt-5-2025");
    EXPECT_EQ(metered.text_bytes, std::string_view("Hello \\\"you\\\"").size());
  }
}

TEST(Responses, AStreamWithoutItsLastEventIsCut) {
  for (const std::string& text :
       {std::string(kCreated), std::string(kCreated) + std::string(kText) + std::string(kDone)}) {
    const auto filter = passing_filter(Shape::openai, false);
    std::string out;
    filter->feed(text, out);
    filter->end(out);
    EXPECT_TRUE(filter->failure());
  }
}

TEST(Responses, NothingGoesOnBeforeThereIsSomethingOfTheAnswer) {
  const auto filter = passing_filter(Shape::openai, false);
  std::string out;
  filter->feed(kCreated, out);
  EXPECT_EQ(out, "");
  filter->feed(kText, out);
  EXPECT_EQ(out, std::string(kCreated) + std::string(kText));
}

TEST(Responses, AFailedOneIsWholeAndTheCallersToRead) {
  const std::string text = std::string(kCreated) +
                           "event: response.failed\ndata: {\"type\":\"response.failed\","
                           "\"response\":{\"model\":\"m\",\"error\":{\"code\":\"server_error\"}}}\n\n";
  const auto filter = passing_filter(Shape::openai, false);
  std::string out;
  filter->feed(text, out);
  filter->end(out);
  EXPECT_FALSE(filter->failure());
  EXPECT_EQ(out, text);
}

TEST(Responses, UsageIncludesWhatCameFromACacheAndIsCountedOnce) {
  Metered metered;
  meter_reply(Shape::openai,
              json::parse(R"({"object":"response","model":"m","usage":{"input_tokens":20,
                 "input_tokens_details":{"cached_tokens":4},"output_tokens":10,
                 "output_tokens_details":{"reasoning_tokens":3},"total_tokens":30}})"),
              metered);
  ASSERT_TRUE(metered.usage);
  EXPECT_EQ(metered.usage->input(), 20);
  EXPECT_EQ(metered.usage->cache_read, 4);
  EXPECT_EQ(metered.usage->output, 10);
}

}  // namespace
}  // namespace sluice::gateway::ai
