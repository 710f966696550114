#include "gateway/ai/reply_meter.h"

#include <array>
#include <gmock/gmock.h>
#include <span>
#include <string>
#include <string_view>

#include <boost/json/parse.hpp>

namespace sluice::gateway::ai {
namespace {

struct Case {
  std::string_view what;
  Shape shape;
  std::string_view answer;
};

// What a reader in one piece makes of each is what is expected of one in pieces.
constexpr std::array kCases{
    Case{"a chat", Shape::openai,
         R"({"id":"1","choices":[{"message":{"content":"a \"usage\": {\"prompt_tokens\": 9}"}}],)"
         R"("model":"m-1","usage":{"prompt_tokens":7,"completion_tokens":5,)"
         R"("prompt_tokens_details":{"cached_tokens":3}}})"},
    Case{
        "usage before the text", Shape::anthropic,
        R"({"usage":{"input_tokens":2,"output_tokens":1},"content":[{"usage":{"input_tokens":9}}]})"},
    Case{"no usage but within", Shape::openai, R"({"response":{"usage":{"prompt_tokens":7}}})"},
    Case{"the last of two", Shape::openai,
         R"({"usage":{"prompt_tokens":7},"usage":{"prompt_tokens":8},"model":"a","model":"b"})"},
    Case{"the last of two is none", Shape::openai,
         R"({"usage":{"prompt_tokens":7},"usage":null,"model":"a","model":["b"]})"},
    Case{"an escaped key", Shape::openai,
         R"({"us\u0061ge":{"prompt_tokens":7},"m\u006fdel":"\u00e4"})"},
    Case{"a key that only begins so", Shape::openai,
         R"({"usage_of_many_other_things":{"prompt_tokens":7},"usag":{},"models":"x"})"},
    Case{"a list", Shape::gemini,
         R"([{"usageMetadata":{"promptTokenCount":1},"modelVersion":"g"},)"
         R"({"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2}}])"},
    Case{"a list whose last is none", Shape::gemini,
         R"([{"usageMetadata":{"promptTokenCount":1}},5])"},
    Case{"a list in a list", Shape::gemini, R"([5,[{"usageMetadata":{"promptTokenCount":1}}]])"},
    Case{"a list that ends empty", Shape::gemini,
         R"([{"usageMetadata":{"promptTokenCount":1}},[]])"},
    Case{
        "many counts", Shape::openai,
        R"({"usage":{"prompt_tokens":1e3,"completion_tokens":18446744073709551615,"a":[1,[2.5,{}],)"
        R"(true,false,null,"x",-1],"b":{"c":{"d":"e"}},"f":1,"g":2,"h":3,"i":4,"j":5,"k":6,"l":7}})"},
    Case{"spaces, nothing, and an empty part", Shape::openai,
         "{\"usage\" : {\n \"prompt_tokens\" : 7 , \"completion_tokens\":null,\t\"x\":{},"
         "\"prompt_tokens_details\" : { \"cached_tokens\" : 3 } } }"},
    Case{"the last of two counts", Shape::openai,
         R"({"usage":{"prompt_tokens":7,"completion_tokens":1,"prompt_tokens":8}})"},
    Case{"the last of two parts", Shape::openai,
         R"({"usage":{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":3},)"
         R"("prompt_tokens_details":{}}})"},
    Case{"a part that is none", Shape::openai,
         R"({"usage":{"prompt_tokens":7,"prompt_tokens_details":3}})"},
    Case{"a count that is a part", Shape::openai, R"({"usage":{"prompt_tokens":{}}})"},
    Case{"a part's count that is a part", Shape::openai,
         R"({"usage":{"prompt_tokens_details":{"cached_tokens":{}}}})"},
    Case{"an escaped count", Shape::openai, R"({"usage":{"prompt_t\u006fkens":7}})"},
    Case{"of the other kinds", Shape::openai,
         R"({"usage":{"input_tokens":7,"output_tokens":5,"input_tokens_details":null}})"},
    Case{"under other names", Shape::openai, R"({"usage":{"input_tokens":7,"output_tokens":5}})"},
    Case{"Gemini's", Shape::gemini,
         R"({"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":2,)"
         R"("candidatesTokenCount":4,"thoughtsTokenCount":3},"modelVersion":"g"})"},
    Case{"no counts", Shape::openai, R"({"usage":{}})"},
    Case{"more counts than anybody has", Shape::openai,
         R"({"usage":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,)"
         R"("m":1,"n":1,"o":1,"p":1,"q":1,"r":1,"s":1,"t":1,"u":1,"v":1,"w":1,"x":1,"y":1,)"
         R"("prompt_tokens":7}})"},
    Case{"a count that is a text", Shape::openai, R"({"usage":{"prompt_tokens":"7"}})"},
    Case{"no JSON", Shape::openai, R"({"usage":{"prompt_tokens":7})"},
    Case{"more than JSON", Shape::openai, R"({"usage":{"prompt_tokens":7}} x)"},
    Case{"nothing", Shape::openai, ""},
};

Metered in_pieces(const Case& one, std::size_t size) {
  ReplyMeter meter(one.shape, one.answer.size());
  for (std::size_t at = 0; at < one.answer.size(); at += size)
    meter.feed(one.answer.substr(at, size));
  Metered out;
  meter.end(out);
  return out;
}

Metered at_once(const Case& one) {
  boost::system::error_code error;
  const json::value body = json::parse(one.answer, error);
  Metered out;
  if (!error) meter_reply(one.shape, body, out);
  return out;
}

TEST(ReplyMeter, SaysWhatTheWholeAnswerSays) {
  for (const Case& one : kCases) {
    const Metered expected = at_once(one);
    for (std::size_t size = 1; size <= one.answer.size() + 1; ++size) {
      const Metered found = in_pieces(one, size);
      EXPECT_EQ(found.model, expected.model) << one.what << ", in pieces of " << size;
      ASSERT_EQ(found.usage.has_value(), expected.usage.has_value()) << one.what << ", " << size;
      if (!found.usage) continue;
      EXPECT_EQ(found.usage->uncached, expected.usage->uncached) << one.what << ", " << size;
      EXPECT_EQ(found.usage->cache_read, expected.usage->cache_read) << one.what << ", " << size;
      EXPECT_EQ(found.usage->output, expected.usage->output) << one.what << ", " << size;
    }
  }
}

TEST(ReplyMeter, WhatIsNoCountMakesUsageUnknown) {
  const auto usage = [](std::string_view counts) {
    const std::string answer =
        R"({"usage":{"completion_tokens":5,"prompt_tokens":)" + std::string(counts) + "}}";
    return in_pieces({"", Shape::openai, answer}, 1000).usage;
  };
  for (const std::string_view none :
       {"\"7\"", "7.5", "-7", "1e300", "1e13", "true", "[7]", "{}", "1000000000001"})
    EXPECT_FALSE(usage(none)) << none;
  for (const std::string_view seven : {"7", "7.0", "0.7e1"}) {
    ASSERT_TRUE(usage(seven)) << seven;
    EXPECT_EQ(usage(seven)->input(), 7) << seven;
  }
  EXPECT_EQ(usage("null").value_or(Usage{}).output, 5);
  EXPECT_EQ(usage("999999999999").value_or(Usage{}).input(), 999'999'999'999);
  EXPECT_EQ(usage("1000000000000").value_or(Usage{}).input(), 1'000'000'000'000);
  // What is no JSON says nothing.
  for (const std::string_view none :
       {"07", "7 7", "nul", "+7", "7}", "7,", "7,\"a\":", "7,\"a\nb\":1"})
    EXPECT_FALSE(usage(none)) << none;
}

TEST(ReplyMeter, CountsOfAChat) {
  const Metered found = in_pieces(kCases[0], 5);
  ASSERT_TRUE(found.usage);
  EXPECT_EQ(found.model, "m-1");
  EXPECT_EQ(found.usage->input(), 7);
  EXPECT_EQ(found.usage->cache_read, 3);
  EXPECT_EQ(found.usage->output, 5);
}

TEST(ReplyMeter, OnePieceThatIsNotTheWholeIsNoAnswer) {
  const std::string_view answer = kCases[0].answer;
  ReplyMeter meter(kCases[0].shape, answer.size() + 1);
  meter.feed(answer);
  meter.feed("x");
  Metered out;
  meter.end(out);
  EXPECT_FALSE(out.usage);
}

TEST(ReplyMeter, OfWhatIsNoJsonNothing) {
  for (const Case& one : std::span(kCases).last(3))
    EXPECT_FALSE(in_pieces(one, 4).usage) << one.what;
}

}  // namespace
}  // namespace sluice::gateway::ai
