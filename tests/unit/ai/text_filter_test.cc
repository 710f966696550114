#include "gateway/ai/filter/text_filter.h"

#include <gmock/gmock.h>
#include <map>

#include "gateway/ai/filter/detectors.h"
#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/filter/stream_redactor.h"
#include "tests/unit/ai/translating.h"

namespace sluice::gateway::ai {
namespace {

TextFilter all() {
  return TextFilter::compile({{.name = "all", .find = {"secrets", "personal"}, .pattern = {}}})
      .value();
}

std::string redacted(std::string text, const TextFilter& filter = all()) {
  Findings findings;
  filter.redact(text, findings);
  return text;
}

// Put together here, so that nobody takes them for real ones.
const std::string kKey = "sk-" + std::string("proj-") + std::string(40, 'a');
const std::string kCard = "4111 1111 1111 1111";
const std::string kIban = "DE89 3704 0044 0532 0130 00";
const std::string kPem = "-----BEGIN RSA " + std::string("PRIVATE KEY-----\nMIIEow") +
                         std::string(200, 'A') + "\n";

TEST(TextFilter, FindsWhatItKnows) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"my key is " + kKey + ", take it", "my key is [api_key], take it"},
      {"AI" + std::string("zaSy") + std::string(33, 'b'), "[api_key]"},
      {"token gh" + std::string("p_") + std::string(36, 'c') + ".", "token [api_key]."},
      {"AK" + std::string("IA") + "ABCDEFGHIJKLMNOP", "[aws_key]"},
      {"Bearer ey" + std::string("JhbGciOiJIUzI1NiJ9") + ".eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
       "Bearer [jwt]"},
      {"mail jane.doe+x@example.co.uk!", "mail [email]!"},
      {"card " + kCard + " until 12/29", "card [credit_card] until 12/29"},
      {"card 4111-1111-1111-1111.", "card [credit_card]."},
      {"12 4111111111111111", "12 [credit_card]"},
      {"to " + kIban + " please", "to [iban] please"},
      {"to DE89370400440532013000 AND MORE", "to [iban] AND MORE"},
      {"ssn 123-45-6789", "ssn [us_ssn]"},
      {"before " + kPem + "-----END RSA PRIVATE KEY-----", "before [private_key]"},
  };
  for (const auto& [text, want] : cases)
    EXPECT_EQ(redacted(text).substr(0, want.size()), want) << text;
}

TEST(TextFilter, LeavesAloneWhatOnlyLooksLikeIt) {
  for (const char* text :
       {"4111 1111 1111 1112", "order 1234567890123", "sk-short", "DE89 3704 0044 0532 0130 02",
        "a@b", "risk-averse-people-are-everywhere-in-this-world", "version 1.2.3-4567",
        "x = y@z[1]", "-----BEGIN CERTIFICATE-----"})
    EXPECT_EQ(redacted(text), text);
}

TEST(TextFilter, ChecksDigits) {
  EXPECT_EQ(credit_card(kCard), kCard.size());
  EXPECT_EQ(credit_card("378282246310005"), 15U);
  EXPECT_EQ(credit_card("4111111111111112"), 0U);
  EXPECT_EQ(iban("GB82 WEST 1234 5698 7654 32"), 27U);
  EXPECT_EQ(iban("GB82 WEST 1234 5698 7654 33"), 0U);
}

TEST(TextFilter, APolicysOwnPatternHasItsName) {
  const auto filter =
      TextFilter::compile({{.name = "nightfall", .find = {}, .pattern = "(?i)project nightfall"}});
  ASSERT_TRUE(filter);
  EXPECT_EQ(redacted("about Project Nightfall.", *filter), "about [nightfall].");
  EXPECT_FALSE(TextFilter::compile({{.name = "bad", .find = {}, .pattern = "("}}));
}

TEST(TextFilter, SaysWhichRuleRefuses) {
  const auto filter = TextFilter::compile({{.name = "a", .find = {"email"}, .pattern = {}},
                                           {.name = "b", .find = {}, .pattern = "xyz", .refuse = true}});
  ASSERT_TRUE(filter);
  Findings findings;
  std::string text = "me@example.com";
  EXPECT_TRUE(filter->redact(text, findings));
  EXPECT_EQ(filter->refuses(findings), nullptr);
  text = "xyz";
  EXPECT_TRUE(filter->redact(text, findings));
  ASSERT_NE(filter->refuses(findings), nullptr);
  EXPECT_EQ(filter->refuses(findings)->name, "b");
  EXPECT_FALSE(filter->only({0}).redact(text, findings));
}

// Arguments of tools are JSON within a text, and that may be a text within JSON.
TEST(TextFilter, WhatStandsBehindAnEscapeIsFound) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"a":"line\n)" + kKey + R"("})", R"({"a":"line\n[api_key]"})"},
      {R"({"a":"line\n)" + kKey + R"(\n"})", R"({"a":"line\n[api_key]\n"})"},
      {R"({"a":"{\"b\":\"line\\n)" + kKey + R"(\"}"})", R"({"a":"{\"b\":\"line\\n[api_key]\"}"})"},
      {R"({"a":"\njane@example.com\tand"})", R"({"a":"\n[email]\tand"})"},
      {R"({"a":"\u003cjane@example.com\u003e"})", R"({"a":"\u003c[email]\u003e"})"},
      {R"({"a":"\t4111 1111 1111 1111\r\n123-45-6789"})", R"({"a":"\t[credit_card]\r\n[us_ssn]"})"},
      {R"({"a":"\\sk-)" + kKey.substr(3) + R"("})", R"({"a":"\\[api_key]"})"},
      {R"({\"a\":\"-----BEGIN )" + std::string(R"(PRIVATE KEY-----\nMII\/Eow==\n\",\"b\":1})"),
       R"({\"a\":\"[private_key]\",\"b\":1})"},
      {R"(C:\new\jane@example.com)", R"(C:\new\[email])"},
  };
  for (const auto& [text, want] : cases)
    EXPECT_EQ(redacted(text), want) << text;
  const auto own =
      TextFilter::compile({{.name = "own", .find = {}, .pattern = R"(\bnight\w*|n?fall)"},
                           {.name = "path", .find = {}, .pattern = R"(C:\\new)"}});
  ASSERT_TRUE(own);
  EXPECT_EQ(redacted(R"({"a":"x\nnightfall"})", *own), R"({"a":"x\n[own]"})");
  EXPECT_EQ(redacted(R"({"a":"x\nfall"})", *own), R"({"a":"x[own]"})");
  EXPECT_EQ(redacted(R"(C:\new)", *own), "[path]");
}

TEST(TextFilter, NoCutHidesWhatStandsBehindAnEscape) {
  const TextFilter filter = all();
  const std::string text = R"({"a":")" + std::string(300, 'x') + R"(\n)" + kKey +
                           R"(\u00E94111 1111 1111 1111\n","b":"\\n)" + kKey +
                           R"(\"\njane@example.com"})";
  const std::string want = redacted(text);
  EXPECT_EQ(want, R"({"a":")" + std::string(300, 'x') +
                      R"(\n[api_key]\u00E9[credit_card]\n","b":"\\n[api_key]\"\n[email]"})");
  for (std::size_t at = 0; at <= text.size(); ++at) {
    Findings findings;
    std::string held = text.substr(0, at);
    std::string out;
    filter.feed(held, false, out, findings);
    held.append(text, at);
    filter.feed(held, false, out, findings);
    filter.feed(held, true, out, findings);
    ASSERT_EQ(out, want) << at;
  }
}

const std::string kAll = "Hello jane@example.com, " + kKey + " and " + kCard + " or " + kIban +
                         " so. Then\n" + kPem + "and the end: 123-45-6789 ok AND MORE";

// Wherever a text is cut, what comes out is what comes out of it as a whole.
TEST(TextFilter, ATextThatIsCutAtEveryByteIsTheSame) {
  const TextFilter filter = all();
  const std::string want = redacted(kAll);
  EXPECT_THAT(want, ::testing::Not(::testing::HasSubstr("example.com")));
  EXPECT_THAT(want, ::testing::Not(::testing::HasSubstr("4111")));
  EXPECT_THAT(want, ::testing::Not(::testing::HasSubstr("MIIE")));
  for (std::size_t at = 0; at <= kAll.size(); ++at) {
    Findings findings;
    std::string held;
    std::string out;
    held.append(kAll, 0, at);
    filter.feed(held, false, out, findings);
    held.append(kAll, at);
    filter.feed(held, false, out, findings);
    filter.feed(held, true, out, findings);
    ASSERT_EQ(out, want) << at;
  }
  for (const std::size_t step : {1U, 2U, 3U, 7U, 50U}) {
    Findings findings;
    std::string held;
    std::string out;
    for (std::size_t at = 0; at < kAll.size(); at += step) {
      held.append(kAll, at, step);
      filter.feed(held, false, out, findings);
    }
    filter.feed(held, true, out, findings);
    ASSERT_EQ(out, want) << step;
  }
}

TEST(TextFilter, WhatIsHeldBackIsBounded) {
  const TextFilter filter = all();
  Findings findings;
  std::string held;
  std::string out;
  std::size_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    held.append(i % 2 == 0 ? "x" : "y");
    filter.feed(held, false, out, findings);
    most = std::max(most, held.size());
  }
  EXPECT_LE(most, TextFilter::kMostOfWord + 1);
  held = "-----BEGIN " + std::string("PRIVATE KEY-----");
  for (int i = 0; i < 1000; ++i) {
    held.append(64, 'A');
    filter.feed(held, false, out, findings);
    most = std::max(most, held.size());
  }
  EXPECT_LE(most, TextFilter::kMostOfMatch + 64);
}

TEST(TextFilter, WordsGoOnAsTheyCome) {
  const TextFilter filter = all();
  Findings findings;
  std::string held = "Hello there ";
  std::string out;
  filter.feed(held, false, out, findings);
  EXPECT_EQ(out, "Hello there ");
}

// --- JSON

TEST(JsonFilter, ChangesNothingButWhatItFinds) {
  const TextFilter filter = all();
  Findings findings;
  std::string text =
      R"({ "a" : [1.50, "x\u0040y.example", {"me@example.com": "b\n"}],"id":"me@example.com" })";
  EXPECT_TRUE(filter_json(filter, text, findings));
  EXPECT_EQ(text,
            R"({ "a" : [1.50, "[email]", {"me@example.com": "b\n"}],"id":"me@example.com" })");
  std::string broken = R"({"a": "me@exa)";
  EXPECT_FALSE(filter_json(filter, broken, findings));
}

// Anthropic's documents may be plain text, and an argument may have any name.
TEST(JsonFilter, OnlyWhatIsBase64IsMedia) {
  const TextFilter filter = all();
  const std::string media = std::string(300, 'A') + "/sk-" + std::string(30, 'b') + "==";
  for (const std::string& text :
       {R"({"data":")" + media + "\"}", R"({"b64_json":[")" + media + "\"]}",
        R"({"signature":"x/sk-)" + std::string(30, 'b') + "\"}",
        R"({"encrypted_content":"sluice.gemini:sk-)" + std::string(30, 'b') + "\"}"}) {
    Findings findings;
    std::string same = text;
    EXPECT_FALSE(filter_json(filter, same, findings)) << text;
    EXPECT_EQ(same, text);
  }
  for (const std::string member : {"data", "signature", "encrypted_content"}) {
    Findings findings;
    std::string text = "{\"" + member + "\":\"I am jane@example.com\"}";
    EXPECT_TRUE(filter_json(filter, text, findings)) << member;
    EXPECT_EQ(text, "{\"" + member + "\":\"I am [email]\"}");
  }
  Findings findings;
  std::string key = R"({"data":")" + kKey + "\"}";
  EXPECT_TRUE(filter_json(filter, key, findings));
  EXPECT_EQ(key, R"({"data":"[api_key]"})");
}

// --- streams

std::string sse(std::string_view name, const std::string& data) {
  return (name.empty() ? "" : "event: " + std::string(name) + "\n") + "data: " + data + "\n\n";
}

struct Stream {
  Shape shape;
  std::string text;
  std::string before;  // of the text, in an event's data
  std::string said(const std::string& out) const {
    std::string all;
    for (std::size_t at = out.find(before); at != std::string::npos; at = out.find(before, at)) {
      at += before.size();
      all += out.substr(at, out.find('"', at) - at);
    }
    return all;
  }
};

// The secret comes in two pieces.
std::vector<Stream> streams(const std::string& one, const std::string& two) {
  const auto openai = [](const std::string& delta, const std::string& finish) {
    return sse("", R"({"id":"c","choices":[{"index":0,"delta":)" + delta + R"(,"finish_reason":)" +
                       finish + "}]}");
  };
  const auto anthropic = [](const std::string& text) {
    return sse("content_block_delta",
               R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":")" +
                   text + "\"}}");
  };
  const auto gemini = [](const std::string& text, const std::string& finish) {
    return sse("", R"({"candidates":[{"content":{"role":"model","parts":[{"text":")" + text +
                       R"("}]},"index":0)" + finish + "}]}");
  };
  const auto responses = [](const std::string& text) {
    return sse("response.output_text.delta",
               R"({"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":")" +
                   text + "\"}");
  };
  return {
      {Shape::openai,
       openai(R"({"content":")" + one + "\"}", "null") + openai(R"({"content":")" + two + "\"}", "null") +
           openai("{}", "\"stop\"") + "data: [DONE]\n\n",
       R"("content":")"},
      {Shape::openai,
       openai(R"({"tool_calls":[{"index":0,"function":{"arguments":")" + one + "\"}}]}", "null") +
           openai(R"({"tool_calls":[{"index":0,"function":{"arguments":")" + two + "\"}}]}", "null") +
           openai("{}", "\"tool_calls\"") + "data: [DONE]\n\n",
       R"("arguments":")"},
      {Shape::anthropic,
       anthropic(one) + anthropic(two) +
           sse("content_block_stop", R"({"type":"content_block_stop","index":0})") +
           sse("message_stop", R"({"type":"message_stop"})"),
       R"("text":")"},
      {Shape::gemini, gemini(one, "") + gemini(two, R"(,"finishReason":"STOP")"), R"("text":")"},
      {Shape::openai,
       responses(one) + responses(two) +
           sse("response.output_text.done",
               R"({"type":"response.output_text.done","output_index":0,"content_index":0,"text":")" +
                   one + two + "\"}") +
           sse("response.completed", R"({"type":"response.completed","response":{}})"),
       R"("delta":")"},
  };
}

// The secret is cut between two events at every byte, and the stream at every byte of its own.
TEST(StreamRedactor, NoCutLetsASecretThrough) {
  const TextFilter filter = all();
  const std::string text = "mail jane@example.com or " + kKey;
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    for (const Stream& stream : streams(text.substr(0, cut), text.substr(cut))) {
      std::string whole;
      StreamRedactor(stream.shape, filter).feed(stream.text, whole);
      ASSERT_EQ(stream.said(whole), "mail [email] or [api_key]") << whole;
      ASSERT_THAT(whole, ::testing::Not(::testing::HasSubstr(kKey)));
      ASSERT_THAT(whole, ::testing::Not(::testing::HasSubstr("jane@")));
      if (cut % 9 != 0) continue;
      for (std::size_t at = 0; at <= stream.text.size(); ++at) {
        StreamRedactor redactor(stream.shape, filter);
        std::string out;
        redactor.feed(std::string_view(stream.text).substr(0, at), out);
        redactor.feed(std::string_view(stream.text).substr(at), out);
        ASSERT_EQ(out, whole) << at;
      }
    }
  }
}

std::string filtered(Shape shape, const std::string& stream) {
  const TextFilter filter = all();
  std::string out;
  StreamRedactor(shape, filter).feed(stream, out);
  return out;
}

std::string chunk(const std::string& choice) {
  return sse("", R"({"id":"c","model":"m","choices":[{"index":0,)" + choice + "}]}");
}

std::vector<json::value> choices(const std::string& stream) {
  std::vector<json::value> found;
  for (const json::value& event : events(stream))
    if (event.is_object()) found.push_back(event.at("choices").at(0));
  return found;
}

TEST(StreamRedactor, ACallAndItsEndInOneChunkAreWhole) {
  const auto got = choices(filtered(
      Shape::openai,
      chunk(
          R"("delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":)"
          R"({"name":"f","arguments":"{\"to\":\"jane@example.com\"}"}}]},"finish_reason":"tool_calls")")));
  ASSERT_EQ(got.size(), 1U);
  const json::array& calls = got[0].at("delta").at("tool_calls").as_array();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].at("id"), "a");
  EXPECT_EQ(calls[0].at("function").at("name"), "f");
  EXPECT_EQ(calls[0].at("function").at("arguments"), R"({"to":"[email]"})");
}

TEST(StreamRedactor, CallsOfOneIndexAreNotMixed) {
  const auto call = [](const std::string& id, const std::string& word) {
    return chunk(R"("delta":{"tool_calls":[{"index":0,"id":")" + id +
                 R"(","function":{"name":"f","arguments":")" + word +
                 R"("}}]},"finish_reason":null)");
  };
  std::map<std::string, std::string> said;
  std::string id;
  for (const json::value& choice :
       choices(filtered(Shape::openai, call("a", "one") + call("b", "two") +
                                           chunk(R"("delta":{},"finish_reason":"tool_calls")")))) {
    const json::value* calls = choice.at("delta").as_object().if_contains("tool_calls");
    if (calls == nullptr) continue;
    for (const json::value& one : calls->as_array()) {
      if (const json::value* name = one.as_object().if_contains("id")) id = name->as_string();
      said[id] += one.at("function").at("arguments").as_string();
    }
  }
  EXPECT_EQ(said, (std::map<std::string, std::string>{{"a", "one"}, {"b", "two"}}));
}

TEST(StreamRedactor, NothingIsLostWhereAStreamEndsOtherwise) {
  const std::string said =
      chunk(R"("delta":{"content":"mail jane@example.com"},"finish_reason":null)");
  for (const std::string& end : {chunk(R"("finish_reason":"stop")"), std::string()}) {
    const std::string out = filtered(Shape::openai, said + end + "data: [DONE]\n\n");
    std::string text;
    for (const json::value& choice : choices(out))
      if (const json::value* delta = choice.as_object().if_contains("delta"))
        if (const json::value* piece = delta->as_object().if_contains("content"))
          text += piece->as_string();
    EXPECT_EQ(text, "mail [email]") << out;
    EXPECT_TRUE(out.ends_with("data: [DONE]\n\n"));
  }
  const std::string call = chunk(
      R"("delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":null)");
  EXPECT_THAT(filtered(Shape::openai, call + "data: [DONE]\n\n"),
              ::testing::HasSubstr(R"("tool_calls":[{"index":0,"function":{"arguments":"{}"}}])"));
  // An empty reason is none.
  const std::string cut =
      filtered(Shape::openai, chunk(R"("delta":{"content":"jane@exam"},"finish_reason":"")") +
                                  chunk(R"("delta":{"content":"ple.com"},"finish_reason":"stop")"));
  EXPECT_THAT(cut, ::testing::Not(::testing::HasSubstr("jane")));
}

TEST(StreamRedactor, WhatGeminiSaysBeforeACallStaysBeforeIt) {
  const std::string out = filtered(
      Shape::gemini,
      sse("",
          R"({"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"thinking","thought":true}]}}]})") +
          sse("",
              R"({"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"I look"},)"
              R"({"functionCall":{"name":"f","args":{}}}]}}]})") +
          sse("", R"({"candidates":[{"index":0,"finishReason":"STOP"}]})"));
  std::vector<std::string> order;
  for (const json::value& event : events(out)) {
    const json::value* content = event.at("candidates").at(0).as_object().if_contains("content");
    if (content == nullptr) continue;
    for (const json::value& part : content->at("parts").as_array()) {
      const json::value* text = part.as_object().if_contains("text");
      const std::string word = text != nullptr ? std::string(text->as_string()) : "call";
      if (!word.empty()) order.push_back((part.as_object().contains("thought") ? "?" : "") + word);
    }
  }
  EXPECT_THAT(order, ::testing::ElementsAre("?thinking", "I ", "look", "call")) << out;
}

TEST(StreamRedactor, AllFormsOfATextAreLookedAt) {
  const std::string one = "mail jane@exam";
  const std::string two = "ple.com";
  const std::vector<std::pair<std::string, std::string>> forms{
      {R"("delta":{"reasoning":")", "\"}"},
      {R"("text":")", "\""},
      {R"("delta":{"function_call":{"arguments":")", "\"}}"},
  };
  for (const auto& [before, behind] : forms) {
    const std::string out =
        filtered(Shape::openai, chunk(before + one + behind + R"(,"finish_reason":null)") +
                                    chunk(before + two + behind + R"(,"finish_reason":"stop")"));
    EXPECT_THAT(out, ::testing::HasSubstr("[email]")) << before;
    EXPECT_THAT(out, ::testing::Not(::testing::HasSubstr("jane"))) << before;
  }
  for (
      const auto& [shape, event] : std::vector<std::pair<Shape, std::string>>{
          {Shape::openai,
           R"({"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"jane@example.com"}]},"finish_reason":"stop"}]})"},
          {Shape::openai,
           R"({"choices":[{"index":0,"delta":{"content":[{"type":"text","summary":{"a":"jane@example.com"}}]}}]})"},
          {Shape::openai, R"({"choices":[{"index":0,"message":{"content":"jane@example.com"}}]})"},
          {Shape::openai, R"({"error":{"message":"jane@example.com"}})"},
          {Shape::anthropic, R"({"type":"error","error":{"message":"jane@example.com"}})"},
          {Shape::anthropic,
           R"({"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"cited_text":"jane@example.com"}}})"},
          {Shape::gemini,
           R"({"candidates":[{"index":0,"content":{"parts":[{"codeExecutionResult":{"output":"jane@example.com"}}]}}]})"}}) {
    const std::string out = filtered(shape, sse("", event));
    EXPECT_THAT(out, ::testing::HasSubstr("[email]")) << event;
    EXPECT_THAT(out, ::testing::Not(::testing::HasSubstr("jane"))) << event;
  }
}

// Mistral's models that think, OpenAI's voices and OpenRouter say a text in parts of lists, or
// deeper.
TEST(StreamRedactor, TextsOfListsGoOnOverEvents) {
  const std::vector<std::pair<std::string, std::string>> forms{
      {R"({"content":[{"type":"text","text":")", "\"}]}"},
      {R"({"content":[{"type":"thinking","thinking":[{"type":"text","text":")", "\"}]}]}"},
      {R"({"audio":{"id":"a","transcript":")", "\"}}"},
      {R"({"reasoning_details":[{"type":"reasoning.text","index":1,"text":")", "\"}]}"},
      {R"({"reasoning_details":[{"type":"reasoning.summary","summary":")", "\"}]}"},
  };
  const std::string none = R"(,"finish_reason":null)";
  const std::string stop = R"(,"finish_reason":"stop")";
  for (const auto& [before, behind] : forms) {
    const auto piece = [&](const std::string& text, const std::string& finish) {
      return chunk("\"delta\":" + before + text + behind + finish);
    };
    const Stream stream{Shape::openai, {}, before.substr(before.rfind(",\"") + 1)};
    for (const std::string& end :
         {piece("ple.com", stop),
          piece("ple.com", none) + chunk(R"("delta":{"content":""})" + stop),
          piece("ple.com", none) + "data: [DONE]\n\n"}) {
      const std::string out =
          filtered(Shape::openai, piece("mail jane", none) + piece("@exam", none) + end);
      EXPECT_EQ(stream.said(out), "mail [email]") << out;
    }
  }
}

TEST(StreamRedactor, WhatIsHeldOfAThoughtStaysBeforeTheText) {
  const std::string thought = chunk(
      R"("delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"I think"}]}]})");
  for (const char* text : {R"([{"type":"text","text":"Hello you"}])", R"("Hello you")"}) {
    const std::string out = filtered(
        Shape::openai, thought + chunk(R"("delta":{"content":)" + std::string(text) + "}") +
                           chunk(R"("delta":{},"finish_reason":"stop")"));
    std::string said;
    for (const json::value& choice : choices(out)) {
      const json::value* content = choice.at("delta").as_object().if_contains("content");
      if (content == nullptr) continue;
      if (content->is_string()) {
        said += content->as_string();
        continue;
      }
      for (const json::value& part : content->as_array()) {
        const bool text = part.at("type") == "text";
        const json::value& words = text ? part : part.at("thinking").at(0);
        said += (text ? "" : "<") + std::string(words.at("text").as_string()) + (text ? "" : ">");
      }
    }
    EXPECT_THAT(said, ::testing::AnyOf("<I ><think>Hello you", "<I think>Hello you")) << out;
  }
}

// OpenRouter's signatures come in parts of their own, and are of the text before them.
TEST(StreamRedactor, ATextOfListsIsWholeBeforeItsSignature) {
  const auto details = [](const std::string& part) {
    return chunk(R"("delta":{"reasoning_details":[{"type":"reasoning.text","index":0,)" + part +
                 "}]}");
  };
  for (const char* signature : {R"("signature":"SIG")", R"("text":"","signature":"SIG")",
                                R"("text":null,"signature":"SIG")"}) {
    const std::string out =
        filtered(Shape::openai, details(R"("text":"we think ")") + details(R"("text":"thirdly")") +
                                    details(signature) + chunk(R"("delta":{"content":"so"})") +
                                    chunk(R"("delta":{},"finish_reason":"stop")"));
    std::string said;
    for (const json::value& choice : choices(out)) {
      const json::value* list = choice.at("delta").as_object().if_contains("reasoning_details");
      for (std::size_t i = 0; list != nullptr && i < list->as_array().size(); ++i) {
        const json::object& part = list->as_array()[i].as_object();
        for (const char* word : {"text", "signature"})
          if (const json::value* text = part.if_contains(word); text && text->is_string())
            said += text->as_string();
      }
    }
    EXPECT_EQ(said, "we think thirdlySIG") << out;
  }
}

// The texts of `stream`'s deltas, wherever they stand, and the names of the other events.
std::string said_by_deltas(const std::string& stream) {
  std::string said;
  for (const json::value& event : events(stream)) {
    const json::value* delta = event.is_object() ? event.as_object().if_contains("delta") : nullptr;
    boost::system::error_code error;
    const json::value* text = delta;
    for (const char* way : {"/content/0/text/value", "/text", "/content/text"})
      if (const json::value* deep = delta != nullptr ? delta->find_pointer(way, error) : nullptr)
        text = deep;
    said += text != nullptr ? std::string_view(text->as_string()) : "|";
  }
  return said;
}

// Of transcriptions, runs of threads, Gemini's interactions, and what nobody here knows.
TEST(StreamRedactor, TextsOfOtherStreamsGoOnOverEvents) {
  struct Form {
    Shape shape;
    std::string name;
    std::string before;
    std::string behind;
  };
  for (const Form& form :
       {Form{Shape::openai, "", R"({"type":"transcript.text.delta","delta":")", "\"}"},
        Form{Shape::openai, "thread.message.delta",
             R"({"id":"m","object":"thread.message.delta","delta":{"content":[{"index":0,)"
             R"("type":"text","text":{"value":")",
             "\"}}]}}"},
        Form{Shape::gemini, "",
             R"({"event_type":"content.delta","index":0,"delta":{"type":"text","text":")", "\"}}"},
        Form{Shape::gemini, "",
             R"({"event_type":"step.delta","index":1,"delta":{"type":"thought_summary",)"
             R"("content":{"type":"text","text":")",
             "\"}}}"},
        Form{Shape::anthropic, "", R"({"type":"what.delta","delta":")", "\"}"}}) {
    const auto piece = [&](const std::string& text) {
      return sse(form.name, form.before + text + form.behind);
    };
    const std::string pieces = piece("mail ja") + piece("ne@exam") + piece("ple.com");
    const std::string done = sse("done", R"({"type":"done","text":"mail jane@example.com"})");
    const std::string out = filtered(form.shape, pieces + done + piece("so") + done);
    EXPECT_EQ(said_by_deltas(out), "mail [email]|so|") << out;
    EXPECT_EQ(out.find("exam"), std::string::npos) << out;
    for (const json::value& event : events(out))
      if (const json::value* delta = event.as_object().if_contains("delta"); delta)
        EXPECT_EQ(event.as_object().size(),
                  json::parse(form.before + form.behind).as_object().size());

    const std::string ended = filtered(form.shape, pieces + "data: [DONE]\n\n");
    EXPECT_EQ(ended.find("exam"), std::string::npos) << ended;
    EXPECT_NE(ended.find("[email]"), std::string::npos) << ended;
  }
}

TEST(StreamRedactor, TextsOfOtherStreamsAreNotMixed) {
  const auto piece = [](int index, const std::string& text) {
    return sse("", R"({"event_type":"content.delta","index":)" + std::to_string(index) +
                       R"(,"delta":{"type":"text","text":")" + text + "\"}}");
  };
  const std::string out =
      filtered(Shape::gemini, piece(0, "jane") + piece(1, "one") + piece(0, "@example.com") +
                                  piece(1, "two") + sse("", R"({"event_type":"complete"})"));
  std::map<std::int64_t, std::string> said;
  for (const json::value& event : events(out))
    if (const json::value* delta = event.as_object().if_contains("delta"))
      said[event.at("index").as_int64()] += delta->at("text").as_string();
  EXPECT_EQ(said[0], "[email]") << out;
  EXPECT_EQ(said[1], "onetwo") << out;
}

// Vendors read them, so that they must not be a way around.
TEST(JsonFilter, HalfACharacterHidesNothing) {
  for (const std::string half : {R"(\ud83d)", R"(\udc4d\ud83d)", R"(\\\ud83dx)", "\xff"}) {
    std::string text = R"({"content":")" + half + R"( jane.doe@example.com \ud83d\ude00"})";
    Findings findings;
    EXPECT_TRUE(filter_json(all(), text, findings)) << text;
    EXPECT_EQ(text.find("jane"), std::string::npos) << text;
    EXPECT_NE(text.find("[email]"), std::string::npos) << text;
    EXPECT_TRUE(parse_leniently(text)) << text;
  }
  std::string word = R"({"content":"data: jane.doe@example.com","url":"data:image/png;base64,iVBORw0KGgo="})";
  Findings of_word;
  EXPECT_TRUE(filter_json(all(), word, of_word));
  EXPECT_EQ(word, R"({"content":"data: [email]","url":"data:image/png;base64,iVBORw0KGgo="})");
  std::string alone = R"({"content":"\ud83d and nothing to find"})";
  Findings findings;
  EXPECT_FALSE(filter_json(all(), alone, findings));
  EXPECT_FALSE(parse_leniently(R"({"content":)"));
}

TEST(StreamRedactor, HalfACharacterHidesNothing) {
  const TextFilter filter = all();
  StreamRedactor redactor(Shape::openai, filter);
  std::string out;
  redactor.feed("data: " R"({"choices":[{"index":0,"delta":{"content":"\ud83d jane.doe@example.com "}}]})" "\n\n"
                "data: " R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})" "\n\n", out);
  EXPECT_EQ(out.find("jane"), std::string::npos) << out;
  EXPECT_NE(out.find("[email]"), std::string::npos) << out;
}

TEST(StreamRedactor, WhatHasNothingToFindPassesByteForByte) {
  const TextFilter filter = all();
  for (const Stream& stream : streams("Hello, ", "you there ")) {
    std::string out;
    StreamRedactor(stream.shape, filter).feed(": note\n\n" + stream.text, out);
    EXPECT_EQ(out, ": note\n\n" + stream.text);
  }
}

}  // namespace
}  // namespace sluice::gateway::ai
