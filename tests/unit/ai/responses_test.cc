// OpenAI's Responses API passes byte for byte where a vendor has it: what is read of it is who
// answered, what it took, and whether it is whole. Elsewhere it is translated.
#include <gmock/gmock.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/meter.h"
#include "gateway/ai/shape.h"
#include "gateway/ai/sse.h"
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


// --- towards vendors that have no such API

json::object said(Shape to, std::string_view body) {
  const auto read = responses_codec().read_request(json::parse(body));
  EXPECT_TRUE(read) << describe(read.error());
  const auto written = codec(to).write_request(*read, {});
  EXPECT_TRUE(written) << describe(written.error());
  return written->body;
}

constexpr std::string_view kConversation = R"({"model":"m","instructions":"Be brief.","input":[
  {"role":"developer","content":"In French."},
  {"role":"user","content":[{"type":"input_text","text":"Hi"},{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]},
  {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"sluice.anthropic:sig"},
  {"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"gAAAA-of-another"},
  {"type":"message","role":"assistant","id":"msg_1","status":"completed","content":[{"type":"output_text","text":"Let me look","annotations":[]}]},
  {"type":"function_call","id":"fc_1","call_id":"call_1","name":"weather","arguments":"{\"city\":\"Paris\"}","status":"completed"},
  {"type":"function_call","call_id":"call_2","name":"time","arguments":"{}"},
  {"type":"function_call_output","call_id":"call_1","output":"sunny"},
  {"type":"function_call_output","call_id":"call_2","output":[{"type":"input_text","text":"noon"}]}],
  "tools":[{"type":"function","name":"weather","parameters":{"type":"object","properties":{}},"strict":false}],
  "reasoning":{"effort":"low","summary":"auto"},"max_output_tokens":40000,"store":false,"include":["reasoning.encrypted_content"]})";

TEST(ResponsesTranslated, AConversationBecomesTurns) {
  const json::object body = said(Shape::anthropic, kConversation);
  const json::array& messages = body.at("messages").as_array();
  ASSERT_EQ(messages.size(), 3U);
  const json::array& asked = messages[1].at("content").as_array();
  EXPECT_EQ(asked[0].at("type").as_string(), "thinking");
  EXPECT_EQ(asked[0].at("signature").as_string(), "sig");
  EXPECT_EQ(asked[1].at("text").as_string(), "Let me look");
  EXPECT_EQ(asked[2].at("id").as_string(), "call_1");
  EXPECT_EQ(asked[3].at("name").as_string(), "time");
  const json::array& results = messages[2].at("content").as_array();
  EXPECT_EQ(results[0].at("tool_use_id").as_string(), "call_1");
  EXPECT_EQ(results[1].at("tool_use_id").as_string(), "call_2");
  EXPECT_EQ(body.at("max_tokens").as_int64(), 40000);
  EXPECT_EQ(json::serialize(body).find("of-another"), std::string::npos);
}

TEST(ResponsesTranslated, ATextIsAQuestion) {
  const json::object body = said(Shape::openai, R"({"model":"m","input":"Hi","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}})");
  EXPECT_EQ(body.at("messages").as_array().size(), 1U);
  EXPECT_EQ(body.at("response_format").at("json_schema").at("name").as_string(), "n");
}

TEST(ResponsesTranslated, P19WhatOneVendorKeepsIsRefusedByName) {
  for (const auto& [field, body] :
       std::vector<std::pair<std::string, std::string>>{
           {"previous_response_id", R"({"model":"m","input":"a","previous_response_id":"r"})"},
           {"conversation", R"({"model":"m","input":"a","conversation":{"id":"c"}})"},
           {"background", R"({"model":"m","input":"a","background":true})"},
           {"input[0].type", R"({"model":"m","input":[{"type":"item_reference","id":"i"}]})"},
           {"input", R"({"model":"m"})"},
           {"input[0].role", R"({"model":"m","input":[{"role":"tool","content":"a"}]})"}}) {
    const auto read = responses_codec().read_request(json::parse(body));
    ASSERT_FALSE(read) << body;
    EXPECT_EQ(read.error().field, field);
    EXPECT_EQ(read.error().kind, ProblemKind::invalid_request);
  }
}

TEST(ResponsesTranslated, ToolsThatTheVendorRunsAreNamed) {
  const auto read = responses_codec().read_request(json::parse(
      R"({"model":"m","input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}],"tools":[{"type":"web_search"}],"max_tool_calls":3})"));
  ASSERT_TRUE(read);
  EXPECT_THAT(read->untranslatable,
              ::testing::UnorderedElementsAre("input[0].content[0].file_id", "tools[0]",
                                              "max_tool_calls"));
}

TEST(ResponsesTranslated, ProbabilitiesAndVerbosityAreOfOneVendor) {
  const auto read = [](std::string_view more) {
    const auto request = responses_codec().read_request(
        json::parse(R"({"model":"m","input":"a",)" + std::string(more) + "}"));
    EXPECT_TRUE(request);
    return request->untranslatable;
  };
  EXPECT_THAT(read(R"("top_logprobs":5)"), ::testing::ElementsAre("top_logprobs"));
  EXPECT_THAT(read(R"("include":["message.output_text.logprobs"])"),
              ::testing::ElementsAre("include"));
  EXPECT_THAT(read(R"("text":{"verbosity":"low"})"), ::testing::ElementsAre("text.verbosity"));
  EXPECT_THAT(read(R"("top_logprobs":0,"include":["reasoning.encrypted_content"],)"
                   R"("text":{"verbosity":"medium","format":{"type":"text"}})"),
              ::testing::IsEmpty());
}

TEST(ResponsesTranslated, AnAnswerIsItems) {
  Reply reply{.id = "1", .model = "m", .parts = {}, .native_stop = {}, .stop_sequence = {}, .usage = {}};
  reply.parts = {{Thinking{.text = "hm", .signature = "sig", .redacted = {}, .vendor = Vendor::anthropic}},
                 {Text{"a"}},
                 {Text{"b"}},
                 {ToolCall{.id = "call_1", .name = "f", .arguments = {}, .signature = "gem"}},
                 {Refusal{"no"}}};
  reply.stop = Stop::length;
  const auto written = responses_codec().write_reply(reply, 7);
  ASSERT_TRUE(written);
  EXPECT_EQ(written->at("status").as_string(), "incomplete");
  EXPECT_EQ(written->at("incomplete_details").at("reason").as_string(), "max_output_tokens");
  const json::array& items = written->at("output").as_array();
  ASSERT_EQ(items.size(), 4U);
  EXPECT_EQ(items[0].at("encrypted_content").as_string(), "sluice.anthropic:sig");
  EXPECT_EQ(items[1].at("content").as_array().size(), 2U);
  EXPECT_EQ(items[2].at("arguments").as_string(), "{}");
  EXPECT_EQ(items[2].at("extra_content").at("google").at("thought_signature").as_string(), "gem");
  EXPECT_EQ(items[3].at("content").at(0).at("refusal").as_string(), "no");
  reply.stop = Stop::unknown;
  EXPECT_FALSE(responses_codec().write_reply(reply, 7));
}

// Each item is begun, goes on and ends under its own number, also where calls interleave.
TEST(ResponsesTranslated, AStreamsItemsEndAndAreAllInItsLastEvent) {
  const auto writer = responses_codec().stream_writer({.usage = true, .created = 7});
  std::string out;
  const Deltas deltas{Begin{"1", "m"},
                      PartBegin{.part = 0, .kind = PartKind::thinking},
                      PartDelta{0, "hm"},
                      PartSignature{.part = 0, .signature = "sig"},
                      PartEnd{0},
                      PartBegin{.part = 1, .kind = PartKind::tool_call, .id = "c1", .name = "f"},
                      PartBegin{.part = 2, .kind = PartKind::tool_call, .id = "c2", .name = "g"},
                      PartDelta{1, "{\"a\":"},
                      PartDelta{2, "{}"},
                      PartDelta{1, "1}"},
                      Finish{Stop::tool_calls, "tool_use"},
                      UsageSoFar{Usage{.uncached = 3, .cache_read = 4, .output = 5}},
                      Done{}};
  for (const Delta& delta : deltas)
    writer->write(delta, out);
  std::vector<json::value> events;
  SseParser parser;
  parser.feed(out, [&](const SseEvent& event) {
    events.push_back(json::parse(event.data));
    EXPECT_EQ(events.back().at("type").as_string(), event.name);
    EXPECT_EQ(events.back().at("sequence_number").as_int64(),
              static_cast<std::int64_t>(events.size() - 1));
  });
  const json::value& last = events.back();
  EXPECT_EQ(last.at("type").as_string(), "response.completed");
  const json::array& items = last.at("response").at("output").as_array();
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0].at("encrypted_content").as_string(), "sluice.anthropic:sig");
  EXPECT_EQ(items[1].at("arguments").as_string(), "{\"a\":1}");
  EXPECT_EQ(items[2].at("call_id").as_string(), "c2");
  EXPECT_EQ(last.at("response").at("usage").at("total_tokens").as_int64(), 12);
  // What is broken has no last event.
  const auto cut = responses_codec().stream_writer({});
  out.clear();
  cut->write(Begin{"1", "m"}, out);
  cut->write(Failure{Problem::upstream("gone")}, out);
  cut->write(Done{}, out);
  EXPECT_NE(out.find("gone"), std::string::npos);
  EXPECT_EQ(out.find("response.completed"), std::string::npos);
}

}  // namespace
}  // namespace sluice::gateway::ai
