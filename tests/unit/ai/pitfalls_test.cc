// What gateways between these APIs have got wrong, each once. The names are what went wrong.
#include <gmock/gmock.h>

#include "gateway/ai/untranslatable.h"
#include "tests/unit/ai/translating.h"

namespace sluice::gateway::ai {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr auto kOpenAi = Shape::openai;
constexpr auto kAnthropic = Shape::anthropic;
constexpr auto kGemini = Shape::gemini;

const json::value& at(const json::value& value, std::string_view pointer) {
  static const json::value kNothing;
  boost::system::error_code error;
  const json::value* found = value.find_pointer(pointer, error);
  EXPECT_NE(found, nullptr) << pointer << " in " << json::serialize(value);
  return found != nullptr ? *found : kNothing;
}

std::string text_at(const json::value& value, std::string_view pointer) {
  const json::value& found = at(value, pointer);
  return found.is_string() ? std::string(found.get_string()) : json::serialize(found);
}

constexpr std::string_view kTwoAnthropicCalls =
    "event: message_start\n"
    R"(data: {"type":"message_start","message":{"id":"msg_1","model":"claude","usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":1}}})"
    "\n\n"
    R"(data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})"
    "\n\n"
    R"(data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me look."}})"
    "\n\n"
    R"(data: {"type":"content_block_stop","index":0})"
    "\n\n"
    R"(data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_a","name":"weather","input":{}}})"
    "\n\n"
    R"(data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}})"
    "\n\n"
    R"(data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"Oslo\"}"}})"
    "\n\n"
    R"(data: {"type":"content_block_stop","index":1})"
    "\n\n"
    R"(data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_b","name":"time","input":{}}})"
    "\n\n"
    R"(data: {"type":"content_block_stop","index":2})"
    "\n\n"
    R"(data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":30}})"
    "\n\n"
    R"(data: {"type":"message_stop"})"
    "\n\n";

TEST(AiPitfalls, P01ToolIndexCountsCallsNotBlocks) {
  std::vector<std::int64_t> indices;
  for (const json::value& event : events(stream(kAnthropic, kOpenAi, kTwoAnthropicCalls))) {
    boost::system::error_code error;
    const json::value* call = event.find_pointer("/choices/0/delta/tool_calls/0", error);
    if (call != nullptr && call->get_object().contains("id"))
      indices.push_back(call->at("index").as_int64());
  }
  EXPECT_THAT(indices, testing::ElementsAre(0, 1));
}

constexpr std::string_view kInterleaved =
    R"(data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"one","arguments":""}}]}}]})"
    "\n\n"
    R"(data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"two","arguments":""}}]}}]})"
    "\n\n"
    R"(data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]}}]})"
    "\n\n"
    R"(data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"y\":2}"}}]}}]})"
    "\n\n"
    R"(data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]})"
    "\n\ndata: [DONE]\n\n";

TEST(AiPitfalls, P02InterleavedCallsStayApartAndEveryBlockIsClosed) {
  std::vector<std::string> order;
  std::array<std::string, 2> arguments;
  for (const json::value& event : events(stream(kOpenAi, kAnthropic, kInterleaved))) {
    const std::string type = text_at(event, "/type");
    if (type.starts_with("content_block"))
      order.push_back(type.substr(14) + std::to_string(event.at("index").as_int64()));
    if (type == "content_block_delta")
      arguments.at(static_cast<std::size_t>(event.at("index").as_int64())) +=
          text_at(event, "/delta/partial_json");
  }
  EXPECT_THAT(order,
              testing::ElementsAre("start0", "delta0", "stop0", "start1", "delta1", "stop1"));
  EXPECT_EQ(arguments[0], R"({"x":1})");
  EXPECT_EQ(arguments[1], R"({"y":2})");
}

TEST(AiPitfalls, P02CallsOfOneIndexAreToldApartByTheirIds) {
  std::string chunks;
  for (const std::string_view id : {"a", "b", "c"}) {
    chunks +=
        R"(data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":")" +
        std::string(id) +
        R"(","type":"function","function":{"name":"look","arguments":"{\"at\":\")" +
        std::string(id) + R"(\"}"}}]}}]})" + "\n\n";
    // Whoever repeats the id goes on.
    chunks += R"(data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":")" +
              std::string(id) + R"(","function":{"arguments":" "}}]}}]})" + "\n\n";
  }
  chunks += R"(data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]})"
            "\n\ndata: [DONE]\n\n";
  std::vector<std::string> ids;
  std::map<std::int64_t, std::string> arguments;
  for (const json::value& event : events(stream(kOpenAi, kAnthropic, chunks))) {
    const std::string type = text_at(event, "/type");
    if (type == "content_block_start") ids.push_back(text_at(event, "/content_block/id"));
    if (type == "content_block_delta")
      arguments[event.at("index").as_int64()] += text_at(event, "/delta/partial_json");
  }
  EXPECT_THAT(ids, testing::ElementsAre("a", "b", "c"));
  EXPECT_THAT(arguments, testing::ElementsAre(testing::Pair(0, R"({"at":"a"} )"),
                                              testing::Pair(1, R"({"at":"b"} )"),
                                              testing::Pair(2, R"({"at":"c"} )")));
}

TEST(AiPitfalls, P03GhostCallsAreNotPassedOn) {
  const std::string out = stream(
      kOpenAi, kOpenAi,
      R"(data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi","tool_calls":[{"index":0,"function":{"arguments":""}}]}}]})"
      "\n\n"
      R"(data: {"id":"c","choices":[{"index":1,"delta":{"content":"another choice"}},{"index":0,"delta":{},"finish_reason":"stop"}]})"
      "\n\ndata: [DONE]\n\n");
  EXPECT_THAT(out, Not(HasSubstr("tool_calls")));
  EXPECT_THAT(out, Not(HasSubstr("another choice")));
}

constexpr std::string_view kTools = R"({
  "model": "gpt", "max_tokens": 50,
  "messages": [{"role": "user", "content": "weather?"}],
  "tools": [{"type": "function", "function": {"name": "weather", "description": "of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}],
  "tool_choice": {"type": "function", "function": {"name": "weather"}}})";

TEST(AiPitfalls, P04ToolsHaveEachVendorsSchema) {
  const json::value anthropic = request(kOpenAi, kAnthropic, kTools);
  EXPECT_EQ(text_at(anthropic, "/tools/0"),
            R"({"name":"weather","description":"of a city","input_schema":{"type":"object",)"
            R"("properties":{"city":{"type":"string"}},"required":["city"]}})");
  EXPECT_EQ(text_at(anthropic, "/tool_choice"), R"({"type":"tool","name":"weather"})");
  const json::value gemini = request(kOpenAi, kGemini, kTools);
  EXPECT_EQ(text_at(gemini, "/tools/0/functionDeclarations/0/name"), "weather");
  EXPECT_EQ(text_at(gemini, "/tools/0/functionDeclarations/0/parameters/properties/city/type"),
            "string");
  EXPECT_EQ(text_at(gemini, "/toolConfig/functionCallingConfig"),
            R"({"mode":"ANY","allowedFunctionNames":["weather"]})");
  const json::value back = request(kAnthropic, kOpenAi, json::serialize(anthropic));
  EXPECT_EQ(text_at(back, "/tools/0/function/parameters/required/0"), "city");
  EXPECT_EQ(text_at(back, "/tool_choice/function/name"), "weather");
}

constexpr std::string_view kTurnWithTextBeforeResult = R"({
  "model": "claude", "max_tokens": 50, "messages": [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
                                      {"type": "tool_use", "id": "t2", "name": "look", "input": {}}]},
    {"role": "user", "content": [
      {"type": "text", "text": "and by the way"},
      {"type": "tool_result", "tool_use_id": "t1", "content": [
        {"type": "text", "text": "seen"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
      {"type": "tool_result", "tool_use_id": "t2", "content": "nothing", "is_error": true}]}]})";

TEST(AiPitfalls, P05ResultsFollowTheCallsAtOnceAndImagesComeAfter) {
  const json::value out = request(kAnthropic, kOpenAi, kTurnWithTextBeforeResult);
  EXPECT_EQ(at(out, "/messages").as_array().size(), 5u);
  EXPECT_EQ(text_at(out, "/messages/1/tool_calls/1/id"), "t2");
  EXPECT_EQ(text_at(out, "/messages/2"), R"({"role":"tool","tool_call_id":"t1","content":"seen"})");
  EXPECT_EQ(text_at(out, "/messages/3/tool_call_id"), "t2");
  EXPECT_EQ(text_at(out, "/messages/4/role"), "user");
  EXPECT_EQ(text_at(out, "/messages/4/content/0/image_url/url"), "data:image/png;base64,AAAA");
  EXPECT_EQ(text_at(out, "/messages/4/content/1/text"), "and by the way");
}

// Of all APIs only Anthropic's has documents as the text that they are.
TEST(AiPitfalls, P05PlainTextDocumentsAreTextForOneAndBase64ForTheOthers) {
  const auto from_anthropic = [](Shape to, const std::string& text) {
    return request(
        kAnthropic, to,
        R"({"model":"c","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document",)"
        R"("source":{"type":"text","media_type":"text/plain","data":")" +
            text + R"("}}]}]})");
  };
  const std::vector<std::pair<std::string, std::string>> cases{
      {"a", "YQ=="}, {"ab", "YWI="}, {"Grüße?", "R3LDvMOfZT8="}, {"abcdef", "YWJjZGVm"}};
  for (const auto& [text, base64] : cases) {
    const json::value openai = from_anthropic(kOpenAi, text);
    EXPECT_EQ(text_at(openai, "/messages/0/content/0/file/file_data"),
              "data:text/plain;base64," + base64);
    EXPECT_EQ(text_at(from_anthropic(kGemini, text), "/contents/0/parts/0/inlineData/data"),
              base64);
    const json::value back =
        request(kOpenAi, kAnthropic,
                R"({"model":"c","messages":[{"role":"user",)"
                R"("content":[{"type":"file","file":{"filename":"a.txt","file_data":)"
                R"("data:text/plain;base64,)" +
                    base64 + R"("}}]}]})");
    EXPECT_EQ(text_at(back, "/messages/0/content/0/source"),
              R"({"type":"text","media_type":"text/plain","data":")" + text + R"("})");
  }
  // What is no text stays what it is.
  for (const std::string base64 : {"/w==", "not base64!"}) {
    const json::value kept = request(kGemini, kAnthropic,
                                     R"({"model":"c","contents":[{"role":"user","parts":[)"
                                     R"({"inlineData":{"mimeType":"text/plain","data":")" +
                                         base64 + R"("}}]}]})");
    EXPECT_EQ(text_at(kept, "/messages/0/content/0/source/type"), "base64");
  }
}

TEST(AiPitfalls, P06NeighboursOfOneSideBecomeOneTurn) {
  const json::value out = request(kOpenAi, kAnthropic, R"({"model": "m", "messages": [
    {"role": "user", "content": "a"}, {"role": "user", "content": "b"},
    {"role": "assistant", "content": "c",
     "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}]},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "t", "content": "r"}, {"role": "user", "content": "d"}]})");
  EXPECT_EQ(at(out, "/messages").as_array().size(), 3u);
  EXPECT_EQ(text_at(out, "/messages/1/content/0"),
            R"({"type":"thinking","thinking":"hm","signature":"sig"})");
  EXPECT_EQ(text_at(out, "/messages/1/content/2/type"), "tool_use");
  EXPECT_EQ(text_at(out, "/messages/2/content/0/type"), "tool_result");
  EXPECT_EQ(text_at(out, "/messages/2/content/1/text"), "d");
}

TEST(AiPitfalls, P07ToolsThatTheVendorRunsAreRefusedByName) {
  constexpr std::string_view kBody = R"({"model": "m", "max_tokens": 9,
    "messages": [{"role": "user", "content": "x"}],
    "tools": [{"type": "web_search_20250305", "name": "web_search"}]})";
  const auto refused = translate_request(kAnthropic, kOpenAi, kBody);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ProblemKind::invalid_request);
  EXPECT_EQ(refused.error().field, "tools[0]");
  WriteOptions drop;
  drop.drop_untranslatable = true;
  const auto dropped = translate_request(kAnthropic, kOpenAi, kBody, drop);
  ASSERT_TRUE(dropped);
  EXPECT_THAT(dropped->dropped, testing::ElementsAre("tools[0]"));
}

TEST(AiPitfalls, P08SystemMessagesAreHoisted) {
  constexpr std::string_view kBody = R"({"model": "m", "messages": [
    {"role": "system", "content": "one"}, {"role": "user", "content": "hi"},
    {"role": "developer", "content": "two"}]})";
  const json::value anthropic = request(kOpenAi, kAnthropic, kBody);
  EXPECT_EQ(text_at(anthropic, "/system"),
            R"([{"type":"text","text":"one"},{"type":"text","text":"two"}])");
  EXPECT_EQ(at(anthropic, "/messages").as_array().size(), 1u);
  EXPECT_EQ(text_at(request(kOpenAi, kGemini, kBody), "/systemInstruction/parts/0/text"),
            "one\n\ntwo");
}

TEST(AiPitfalls, P09WithoutItsThoughtATurnGoesOnWithoutThinking) {
  constexpr std::string_view kBody = R"({"model": "m", "reasoning_effort": "high", "messages": [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "tool_calls": [{"id": "t", "type": "function",
      "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "t", "content": "r"}],
    "tools": [{"type": "function", "function": {"name": "f"}}]})";
  const json::object out = request(kOpenAi, kAnthropic, kBody);
  EXPECT_FALSE(out.contains("thinking"));
}

TEST(AiPitfalls, P10SignedThoughtsWithoutTextAreKept) {
  const json::value out = request(kAnthropic, kAnthropic, R"({"model": "m", "max_tokens": 9,
    "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [
      {"type": "thinking", "thinking": "", "signature": "s"},
      {"type": "thinking", "thinking": "", "signature": ""},
      {"type": "redacted_thinking", "data": "d"}, {"type": "text", "text": "y"}]},
      {"role": "user", "content": "z"}]})");
  EXPECT_EQ(text_at(out, "/messages/1/content"),
            R"([{"type":"thinking","thinking":"","signature":"s"},)"
            R"({"type":"redacted_thinking","data":"d"},{"type":"text","text":"y"}])");
}

TEST(AiPitfalls, P11ForeignThoughtsAreNotSent) {
  const auto out = translate_request(kGemini, kAnthropic, R"({"contents": [
    {"role": "user", "parts": [{"text": "x"}]},
    {"role": "model", "parts": [{"text": "secret", "thought": true}, {"text": "y"}]},
    {"role": "user", "parts": [{"text": "z"}]}]})");
  ASSERT_TRUE(out);
  EXPECT_EQ(text_at(out->body, "/messages/1/content"), R"([{"type":"text","text":"y"}])");
  EXPECT_THAT(out->dropped, testing::Contains("thinking"));
}

TEST(AiPitfalls, P11ThoughtsHaveEitherName) {
  for (const std::string_view name : {"reasoning", "reasoning_content"}) {
    const std::string body =
        R"({"id":"1","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{)"
        R"("role":"assistant","content":"Yes.",")" +
        std::string(name) + R"(":"Hm."}}]})";
    const json::value answer = reply(kOpenAi, kAnthropic, body);
    EXPECT_EQ(text_at(answer, "/content/0/thinking"), "Hm.") << name;
    EXPECT_EQ(text_at(answer, "/content/1/text"), "Yes.") << name;
  }
}

TEST(AiPitfalls, P12ThoughtSignaturesGoRoundWithTheirCall) {
  const json::object shown = reply(kGemini, kOpenAi, R"({"responseId": "r", "modelVersion": "g",
    "candidates": [{"finishReason": "STOP", "content": {"parts": [
      {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "SIG"}]}}]})");
  const json::value message = at(shown, "/choices/0/message");
  EXPECT_EQ(text_at(message, "/tool_calls/0/extra_content/google/thought_signature"), "SIG");
  const json::value next{
      {"model", "g"},
      {"messages", json::array{json::object{{"role", "user"}, {"content", "x"}}, message,
                               json::object{{"role", "tool"},
                                            {"tool_call_id", at(message, "/tool_calls/0/id")},
                                            {"content", "r"}}}}};
  const json::value back = request(kOpenAi, kGemini, json::serialize(next));
  EXPECT_EQ(text_at(back, "/contents/1/parts/0/thoughtSignature"), "SIG");
  EXPECT_EQ(text_at(back, "/contents/2/parts/0/functionResponse"),
            R"({"name":"f","response":{"output":"r"}})");
}

// OpenAI's Python SDK asserts it.
TEST(AiPitfalls, P12EveryPieceOfACallHasItsFunction) {
  const auto pieces = events(stream(
      kGemini, kOpenAi,
      R"(data: {"responseId": "r", "candidates": [{"finishReason": "STOP", "content": {"parts": [)"
      R"({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "SIG"}]}}]})"
      "\n\n"));
  std::size_t calls = 0;
  for (const json::value& piece : pieces) {
    if (!piece.is_object()) continue;
    const json::value& delta = at(piece, "/choices/0/delta");
    const json::value* list = delta.get_object().if_contains("tool_calls");
    if (list == nullptr) continue;
    ++calls;
    EXPECT_TRUE(at(*list, "/0/function/arguments").is_string()) << json::serialize(piece);
  }
  EXPECT_EQ(calls, 3U);  // its name, its signature, its arguments
}

// Protobuf's JSON: Google's Python SDK writes some members one way and some the other.
TEST(AiPitfalls, P12GeminisMembersHaveTwoNames) {
  constexpr std::string_view kCamel = R"({
    "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aaaa"}}]}],
    "systemInstruction": {"parts": [{"text": "s"}]},
    "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object",
      "properties": {"max_items": {"type": "string"}}}, "responseJsonSchema": {"type": "string"}},
      {"name": "g", "parameters": {"type": "OBJECT", "properties": {"any_of": {"type": "ARRAY",
      "minItems": 1, "items": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}}}}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {"maxOutputTokens": 9, "stopSequences": ["x"], "topP": 0.5}})";
  constexpr std::string_view kSnake = R"({
    "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aaaa"}}]}],
    "system_instruction": {"parts": [{"text": "s"}]},
    "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object",
      "properties": {"max_items": {"type": "string"}}}, "response_json_schema": {"type": "string"}},
      {"name": "g", "parameters": {"type": "OBJECT", "properties": {"any_of": {"type": "ARRAY",
      "min_items": 1, "items": {"any_of": [{"type": "STRING"}, {"type": "NUMBER"}]}}}}}]}],
    "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
    "generation_config": {"max_output_tokens": 9, "stop_sequences": ["x"], "top_p": 0.5}})";
  for (const Shape to : {kOpenAi, kAnthropic}) {
    const json::object camel = request(kGemini, to, kCamel);
    EXPECT_EQ(camel, request(kGemini, to, kSnake)) << json::serialize(camel);
    EXPECT_THAT(json::serialize(camel), HasSubstr(R"("max_items":{"type":"string"})"));
    EXPECT_THAT(json::serialize(camel),
                HasSubstr(R"("any_of":{"type":"array","minItems":1,"items":{"anyOf":[)"));
  }
  const auto unknown = translate_request(kGemini, kOpenAi, R"({"generation_config": {"no_such": 1},
    "contents": [{"parts": [{"text": "x"}]}]})");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().field, "generationConfig.no_such");
}

TEST(AiPitfalls, P13SchemasBecomeWhatGeminiTakes) {
  const auto out = translate_request(kOpenAi, kGemini, R"({"model": "g",
    "messages": [{"role": "user", "content": "x"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {
      "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
      "additionalProperties": false,
      "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
      "properties": {"kind": {"const": "a"}, "size": {"type": ["integer", "null"], "exclusiveMinimum": 0},
                     "node": {"$ref": "#/$defs/Node"},
                     "all": {"allOf": [{"$ref": "#/$defs/Node"}]},
                     "one": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}}}]})");
  ASSERT_TRUE(out);
  const json::value schema = at(out->body, "/tools/0/functionDeclarations/0/parameters");
  EXPECT_EQ(text_at(schema, "/properties/kind"), R"({"type":"string","enum":["a"]})");
  EXPECT_EQ(text_at(schema, "/properties/size"), R"({"nullable":true,"type":"integer"})");
  EXPECT_EQ(text_at(schema, "/properties/one"), R"({"nullable":true,"type":"string"})");
  EXPECT_EQ(text_at(schema, "/properties/node/properties/next/type"), "object");
  EXPECT_EQ(text_at(schema, "/properties/all/type"), "object");
  const std::string text = json::serialize(schema);
  for (const auto* word : {"$schema", "$defs", "$ref", "additionalProperties", "exclusiveMinimum"})
    EXPECT_THAT(text, Not(HasSubstr(word)));
  EXPECT_THAT(out->dropped, testing::Contains("tools[0].parameters.additionalProperties"));
  EXPECT_FALSE(out->body.contains("stream_options"));
}

std::expected<WrittenRequest, Problem> to_gemini_with(const std::string& schema) {
  return translate_request(kOpenAi, kGemini,
                           R"({"model": "g",
    "messages": [{"role": "user", "content": "x"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": )" +
                               schema + "}}]}");
}

// Written out wherever it is named, it would be larger than any memory.
TEST(AiPitfalls, P13ASchemaThatNamesItselfOftenEndsThere) {
  std::string node = R"({"type": "object", "properties": {)";
  for (int i = 0; i < 20; ++i)
    node += (i > 0 ? ", \"" : "\"") + std::to_string(i) + R"(": {"$ref": "#/$defs/Node"})";
  node += "}}";
  const auto out = to_gemini_with(R"({"type": "object", "$defs": {"Node": )" + node + R"(},
    "properties": {"node": {"$ref": "#/$defs/Node"}, "all": {"$ref": "#"}}})");
  ASSERT_TRUE(out);
  const json::value schema = at(out->body, "/tools/0/functionDeclarations/0/parameters");
  EXPECT_EQ(text_at(schema, "/properties/node/properties/19"), R"({"type":"object"})");
  EXPECT_EQ(text_at(schema, "/properties/all"), R"({"type":"object"})");
  EXPECT_THAT(out->dropped, testing::Contains("tools[0].parameters.properties.all.$ref"));
}

TEST(AiPitfalls, P13ReferencesThatMultiplyAreRefused) {
  std::string definitions = R"("D0": {"type": "string"})";
  for (int i = 1; i < 24; ++i) {
    const std::string inner = R"({"$ref": "#/$defs/D)" + std::to_string(i - 1) + "\"}";
    definitions += ", \"D" + std::to_string(i) + R"(": {"type": "object", "properties": {"a": )" +
                   inner + R"(, "b": )" + inner + "}}";
  }
  const auto many = to_gemini_with(R"({"type": "object", "$defs": {)" + definitions +
                                   R"(}, "properties": {"x": {"$ref": "#/$defs/D8"}}})");
  EXPECT_TRUE(many);
  const auto all = to_gemini_with(R"({"type": "object", "$defs": {)" + definitions +
                                  R"(}, "properties": {"x": {"$ref": "#/$defs/D23"}}})");
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error().kind, ProblemKind::invalid_request);
  EXPECT_THAT(all.error().field, testing::StartsWith("tools[0].parameters.properties.x"));
  EXPECT_THAT(all.error().message, HasSubstr("references"));
  // A long text that is named often is as large.
  std::string properties;
  for (int i = 0; i < 100; ++i)
    properties += (i > 0 ? ", \"" : "\"") + std::to_string(i) + R"(": {"$ref": "#/$defs/Long"})";
  EXPECT_FALSE(to_gemini_with(R"({"type": "object", "$defs": {"Long": {"description": ")" +
                              std::string(100'000, 'x') + R"("}}, "properties": {)" + properties +
                              "}}"));
}

TEST(AiPitfalls, P14ASchemaIsAskedForNativelyAndAThinkingModelIsNotForced) {
  const json::value out = request(kOpenAi, kAnthropic, R"({"model": "m", "reasoning_effort": "low",
    "messages": [{"role": "user", "content": "x"}], "tool_choice": "required", "temperature": 0.2,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}})");
  EXPECT_EQ(text_at(out, "/output_config/format/type"), "json_schema");
  EXPECT_EQ(text_at(out, "/tool_choice/type"), "auto");
  EXPECT_FALSE(out.get_object().contains("temperature"));
  EXPECT_GT(at(out, "/max_tokens").as_int64(), at(out, "/thinking/budget_tokens").as_int64());
}

TEST(AiPitfalls, P15GeminiIsNotAskedForToolsAndJsonAtOnce) {
  const auto out = translate_request(kOpenAi, kGemini, R"({"model": "g",
    "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f"}}]})");
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().field, "response_format");
}

TEST(AiPitfalls, P16AnUnknownReasonToStopIsNoPlainEnd) {
  constexpr std::string_view kPaused = R"({"id": "i", "model": "m", "content": [],
    "stop_reason": "pause_turn", "usage": {}})";
  const auto read = codec(kAnthropic).read_reply(parsed(kPaused));
  ASSERT_TRUE(read);
  EXPECT_FALSE(codec(kOpenAi).write_reply(*read, 0));
  const json::value refused = reply(
      kAnthropic, kOpenAi, R"({"id": "i", "model": "m", "content": [], "stop_reason": "refusal"})");
  EXPECT_EQ(text_at(refused, "/choices/0/finish_reason"), "content_filter");
  EXPECT_EQ(text_at(refused, "/choices/0/native_finish_reason"), "refusal");
  EXPECT_EQ(text_at(reply(kAnthropic, kOpenAi,
                          R"({"id": "i", "model": "m", "content": [],
                              "stop_reason": "model_context_window_exceeded"})"),
                    "/choices/0/finish_reason"),
            "length");
}

TEST(AiPitfalls, P17EveryTokenIsCountedOnceInBothViews) {
  const json::value openai = reply(kAnthropic, kOpenAi, R"({"id": "i", "model": "m", "content": [],
    "stop_reason": "end_turn", "usage": {"input_tokens": 10, "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 1000, "output_tokens": 5}})");
  EXPECT_EQ(at(openai, "/usage/prompt_tokens").as_int64(), 1110);
  EXPECT_EQ(at(openai, "/usage/total_tokens").as_int64(), 1115);
  EXPECT_EQ(at(openai, "/usage/prompt_tokens_details/cached_tokens").as_int64(), 100);
  const json::value anthropic = reply(kOpenAi, kAnthropic, R"({"id": "i", "model": "m", "choices": [
    {"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 110,
    "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 100}}})");
  EXPECT_EQ(at(anthropic, "/usage/input_tokens").as_int64(), 10);
  EXPECT_EQ(at(anthropic, "/usage/cache_read_input_tokens").as_int64(), 100);
  const json::value gemini = reply(kGemini, kOpenAi, R"({"responseId": "r", "candidates": [
    {"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}], "usageMetadata":
    {"promptTokenCount": 20, "candidatesTokenCount": 3, "thoughtsTokenCount": 40,
     "cachedContentTokenCount": 15}})");
  EXPECT_EQ(at(gemini, "/usage/completion_tokens").as_int64(), 43);
  EXPECT_EQ(at(gemini, "/usage/completion_tokens_details/reasoning_tokens").as_int64(), 40);
}

TEST(AiPitfalls, P17StreamsCountTheSame) {
  const auto all = events(stream(kAnthropic, kOpenAi, kTwoAnthropicCalls));
  ASSERT_GE(all.size(), 2u);
  EXPECT_EQ(text_at(all.back(), ""), "[DONE]");
  const json::value& usage = at(all[all.size() - 2], "/usage");
  EXPECT_EQ(at(usage, "/prompt_tokens").as_int64(), 13);
  EXPECT_EQ(at(usage, "/completion_tokens").as_int64(), 30);
}

TEST(AiPitfalls, P18CacheMarksAreCarriedAndTheirLossIsSaid) {
  constexpr std::string_view kBody = R"({"model": "m", "max_tokens": 9,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [{"role": "user", "content": [
      {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}]})";
  const json::value kept = request(kAnthropic, kAnthropic, kBody);
  EXPECT_EQ(text_at(kept, "/system/0/cache_control/ttl"), "1h");
  EXPECT_EQ(text_at(kept, "/messages/0/content/0/cache_control/type"), "ephemeral");
  EXPECT_EQ(text_at(kept, "/tools/0/cache_control/type"), "ephemeral");
  const auto lost = translate_request(kAnthropic, kOpenAi, kBody);
  ASSERT_TRUE(lost);
  EXPECT_THAT(lost->dropped, testing::Contains("cache_control"));
}

TEST(AiPitfalls, P20MistralsIdsAreNineLettersAndDigits) {
  WriteOptions mistral;
  mistral.dialect = Dialect::mistral;
  const json::value out = request(kAnthropic, kOpenAi, kTurnWithTextBeforeResult, mistral);
  const std::string first = text_at(out, "/messages/1/tool_calls/0/id");
  EXPECT_THAT(first, testing::MatchesRegex("[A-Za-z0-9]{9}"));
  EXPECT_NE(first, text_at(out, "/messages/1/tool_calls/1/id"));
  EXPECT_EQ(text_at(out, "/messages/2/tool_call_id"), first);
  EXPECT_EQ(text_at(out, "/messages/2/name"), "look");
  const json::value begun = request(kOpenAi, kOpenAi, R"({"model": "m", "seed": 3, "messages": [
    {"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]})",
                                    mistral);
  EXPECT_TRUE(at(begun, "/messages/1/prefix").as_bool());
  EXPECT_EQ(at(begun, "/random_seed").as_int64(), 3);
}

// Each result with each call, or what is left out with each other, would take minutes.
constexpr int kMany = 60'000;

TEST(AiPitfalls, P21ManyResultsFindTheirCallsAndLittleIsToldOfWhatIsLeftOut) {
  std::string input;
  for (const std::string_view type : {"function_call", "function_call_output"}) {
    for (int i = 0; i < kMany; ++i) {
      const std::string number = std::to_string(i);
      input += (input.empty() ? R"({"type":")" : R"(,{"type":")") + std::string(type) +
               R"(","call_id":"c)" + number + R"(","name":"f)" + number +
               R"(","arguments":"{}","output":"o"})";
    }
  }
  const auto read =
      responses_codec().read_request(parsed(R"({"model":"m","input":[)" + input + "]}"));
  ASSERT_TRUE(read);
  const auto gemini = codec(kGemini).write_request(*read, {.drop_untranslatable = true});
  ASSERT_TRUE(gemini);
  const json::value body = gemini->body;
  const json::array& results = at(body, "/contents/1/parts").as_array();
  ASSERT_EQ(results.size(), static_cast<std::size_t>(kMany));
  EXPECT_EQ(text_at(results.back(), "/functionResponse/name"), "f" + std::to_string(kMany - 1));
  EXPECT_EQ(gemini->dropped.size(), Untranslatable::kMostDropped);
}

TEST(AiPitfalls, P21GeminisResultsArePairedByNameAndOrder) {
  const std::string more(R"(,{"functionCall":{"name":"f","args":{}}})");
  const std::string none(R"(,{"functionResponse":{"id":"none","name":"f","response":{}}})");
  std::string calls = R"({"functionCall":{"id":"x","name":"g","args":{}}})";
  std::string results = R"({"functionResponse":{"name":"f","response":{"output":"1"}}},)"
                        R"({"functionResponse":{"id":"x","name":"g","response":{"output":"2"}}},)"
                        R"({"functionResponse":{"name":"f","response":{"output":"3"}}})";
  for (int i = 0; i < kMany; ++i) {
    calls += more;
    results += none;
  }
  const json::value out = request(kGemini, kOpenAi,
                                  R"({"model":"m","contents":[
      {"role":"user","parts":[{"text":"go"}]},
      {"role":"model","parts":[)" + calls +
                                      R"(]},{"role":"user","parts":[)" + results + "]}]}");
  const auto id_of = [&](std::string_view place) {
    return text_at(out, "/messages/1/tool_calls/" + std::string(place) + "/id");
  };
  EXPECT_EQ(text_at(out, "/messages/2/tool_call_id"), id_of("1"));
  EXPECT_EQ(text_at(out, "/messages/3/tool_call_id"), "x");
  EXPECT_EQ(text_at(out, "/messages/4/tool_call_id"), id_of("2"));
  EXPECT_EQ(text_at(out, "/messages/5/tool_call_id"), "none");
}

TEST(AiPitfalls, P23AStreamThatWasCutIsNeverShownAsComplete) {
  for (const auto from : {kOpenAi, kAnthropic}) {
    const std::string_view whole = from == kOpenAi ? kInterleaved : kTwoAnthropicCalls;
    for (const auto to : {kOpenAi, kAnthropic, kGemini}) {
      const std::string out = stream(from, to, whole.substr(0, whole.size() * 2 / 3));
      EXPECT_THAT(out, HasSubstr("error"));
      EXPECT_THAT(out, HasSubstr("broke off"));
      for (const auto* end : {"[DONE]", "message_stop", "finishReason", "finish_reason\":\"s"})
        EXPECT_THAT(out, Not(HasSubstr(end)));
    }
  }
}

TEST(AiPitfalls, P23ABrokenAnswerCanBeTriedAgain) {
  const Problem problem = Problem::upstream("the stream broke off");
  EXPECT_EQ(http_status(problem.kind), 502);
  EXPECT_EQ(text_at(codec(kOpenAi).write_problem(problem), "/error/type"), "server_error");
  EXPECT_EQ(text_at(codec(kAnthropic).write_problem(problem), "/error/type"), "api_error");
}

// What a model could not finish for want of tokens is no broken answer.
TEST(AiPitfalls, P23ACallThatWasCutByMaxTokensIsLeftOut) {
  const auto body = [](std::string_view finish) {
    return R"({"id":"i","model":"m","choices":[{"message":{"content":"Look","tool_calls":[
      {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
      {"id":"b","type":"function","function":{"name":"g","arguments":"{\"a\": 1"}}]},
      "finish_reason":")" +
           std::string(finish) + "\"}]}";
  };
  const json::value anthropic = reply(kOpenAi, kAnthropic, body("length"));
  EXPECT_EQ(text_at(anthropic, "/stop_reason"), "max_tokens");
  EXPECT_EQ(at(anthropic, "/content").as_array().size(), 2U);
  const json::value gemini = reply(kOpenAi, kGemini, body("length"));
  EXPECT_EQ(text_at(gemini, "/candidates/0/finishReason"), "MAX_TOKENS");
  EXPECT_EQ(at(gemini, "/candidates/0/content/parts").as_array().size(), 2U);
  for (const Shape to : {kAnthropic, kGemini}) {
    const auto whole = codec(kOpenAi).read_reply(parsed(body("tool_calls")));
    ASSERT_TRUE(whole);
    EXPECT_FALSE(codec(to).write_reply(*whole, 0));
  }
}

TEST(AiPitfalls, P23ACallThatWasCutByMaxTokensIsLeftOutOfStreams) {
  const auto chunks = [](std::string_view finish) {
    return R"(data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[)"
           R"({"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}}]})"
           "\n\n"
           R"(data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":")" +
           std::string(finish) + "\"}]}\n\ndata: [DONE]\n\n";
  };
  const auto all = events(stream(kOpenAi, kGemini, chunks("length")));
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(text_at(all[0], "/candidates/0/finishReason"), "MAX_TOKENS");
  EXPECT_THAT(stream(kOpenAi, kGemini, chunks("tool_calls")), Not(HasSubstr("finishReason")));
}

// However a stream is cut on its way, the caller sees the same.
TEST(AiStreams, AreTheSameHoweverTheyAreCut) {
  for (const auto to : {kOpenAi, kAnthropic, kGemini}) {
    const std::string whole = stream(kAnthropic, to, kTwoAnthropicCalls);
    for (std::size_t cut = 1; cut < 64; ++cut)
      ASSERT_EQ(stream(kAnthropic, to, kTwoAnthropicCalls, cut), whole) << cut;
  }
}

TEST(AiStreams, ACallIsOnePieceForGemini) {
  std::vector<std::string> calls;
  for (const json::value& event : events(stream(kAnthropic, kGemini, kTwoAnthropicCalls))) {
    boost::system::error_code error;
    const auto* call = event.find_pointer("/candidates/0/content/parts/0/functionCall", error);
    if (call != nullptr) calls.push_back(json::serialize(*call));
  }
  EXPECT_THAT(calls,
              testing::ElementsAre(R"({"name":"weather","args":{"city":"Oslo"},"id":"toolu_a"})",
                                   R"({"name":"time","args":{},"id":"toolu_b"})"));
}

TEST(AiRequests, WhatIsWrongIsSaidWithItsPath) {
  const auto error = [](std::string_view body) {
    const auto read = codec(kOpenAi).read_request(parsed(body));
    return read ? std::string("no error") : describe(read.error());
  };
  EXPECT_EQ(error("[]"), "must be an object");
  EXPECT_EQ(error(R"({"messages": []})"), "model: is missing");
  EXPECT_EQ(
      error(R"({"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]})"),
      "messages[0].content[0].text: is missing");
  EXPECT_EQ(
      error(R"({"model": "m", "messages": [{"role": "user", "content": "x"}], "top_p": "high"})"),
      "top_p: must be a number");
}

TEST(AiRequests, AConversationInWhichNothingIsSaidIsRefused) {
  for (const Shape to : {kOpenAi, kAnthropic, kGemini}) {
    const auto out = translate_request(
        kAnthropic, to,
        R"({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": ""}]})");
    ASSERT_FALSE(out);
    EXPECT_EQ(out.error().field, "messages");
  }
}

TEST(AiRequests, FieldsOfOneVendorAreRefusedByNameOrDropped) {
  constexpr std::string_view kBody = R"({"model": "m", "logit_bias": {"1": 2}, "n": 2,
    "messages": [{"role": "user", "content": "x"}]})";
  const auto refused = translate_request(kOpenAi, kAnthropic, kBody);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().field, "n");
  WriteOptions drop;
  drop.drop_untranslatable = true;
  const auto dropped = translate_request(kOpenAi, kAnthropic, kBody, drop);
  ASSERT_TRUE(dropped);
  EXPECT_THAT(dropped->dropped, testing::ElementsAre("n", "logit_bias"));
}

}  // namespace
}  // namespace sluice::gateway::ai
