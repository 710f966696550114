// Thoughts of Mistral's models: contents are lists of texts and thoughts there.
#include <gmock/gmock.h>

#include "tests/unit/ai/translating.h"

namespace sluice::gateway::ai {
namespace {

std::string chunk(std::string_view delta, std::string_view finish = "null") {
  return R"(data: {"id":"c","model":"m","choices":[{"index":0,"delta":)" + std::string(delta) +
         R"(,"finish_reason":)" + std::string(finish) + "}]}\n\n";
}

std::string thoughtful_stream() {
  return chunk(R"({"role":"assistant","content":""})") +
         chunk(R"({"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]})") +
         chunk(R"({"content":[{"type":"thinking","thinking":[{"type":"text","text":" so"}]}]})") +
         chunk(R"({"content":[{"type":"text","text":"Hel"},)"
               R"({"type":"reference","reference_ids":[1]}]})") +
         chunk(R"({"content":"lo"})") + chunk(R"({"content":""})", R"("stop")") +
         "data: [DONE]\n\n";
}

TEST(MistralsThoughts, AreReadInStreams) {
  const std::vector<std::array<std::string, 3>> where{
      {"/choices/0/delta/reasoning_content", "/choices/0/delta/content", "openai"},
      {"/delta/thinking", "/delta/text", "anthropic"}};
  for (const auto& [thought, text, shape] : where) {
    const auto out = events(stream(Shape::openai, *parse_shape(shape), thoughtful_stream()));
    std::string thoughts;
    std::string texts;
    for (const json::value& event : out) {
      ASSERT_EQ(at(event, "/error"), "none") << json::serialize(event);
      if (at(event, thought) != "none") thoughts += at(event, thought);
      if (at(event, text) != "none") texts += at(event, text);
    }
    EXPECT_EQ(thoughts, "Hm so") << shape;
    EXPECT_EQ(texts, "Hello") << shape;
  }
  std::string order;
  for (const json::value& event :
       events(stream(Shape::openai, Shape::gemini, thoughtful_stream()))) {
    const bool thinks = at(event, "/candidates/0/content/parts/0/thought") == "true";
    order += (thinks ? "?" : "") + at(event, "/candidates/0/content/parts/0/text") + "|";
  }
  EXPECT_EQ(order, "?Hm|? so|Hel|lo||");
}

TEST(MistralsThoughts, AreReadInAnswers) {
  constexpr std::string_view kReply = R"({"id":"c","model":"m","choices":[{"index":0,
    "message":{"role":"assistant","content":[{"type":"thinking","thinking":[
      {"type":"text","text":"Hm"},{"type":"reference","reference_ids":[1]},{"type":"text","text":" so"}]},
      {"type":"text","text":"Hello"}]},"finish_reason":"stop"}]})";
  EXPECT_EQ(at(reply(Shape::openai, Shape::anthropic, kReply), "/content"),
            R"([{"type":"thinking","thinking":"Hm so","signature":""},)"
            R"({"type":"text","text":"Hello"}])");
  EXPECT_EQ(at(reply(Shape::openai, Shape::gemini, kReply), "/candidates/0/content/parts"),
            R"([{"text":"Hm so","thought":true},{"text":"Hello"}])");
}

WriteOptions mistral() {
  WriteOptions options;
  options.dialect = Dialect::mistral;
  return options;
}

TEST(MistralsThoughts, GoBackToMistralAlone) {
  constexpr std::string_view kBody = R"({"model":"m","messages":[{"role":"user","content":"a"},
    {"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}],
      "signature":"s"},{"type":"text","text":"b"}]},{"role":"user","content":"c"}]})";
  EXPECT_EQ(at(request(Shape::openai, Shape::openai, kBody, mistral()), "/messages/1/content"),
            R"([{"type":"thinking","thinking":[{"type":"text","text":"Hm"}],"signature":"s"},)"
            R"({"type":"text","text":"b"}])");
  for (const Shape other : {Shape::openai, Shape::anthropic, Shape::gemini}) {
    const auto out = translate_request(Shape::openai, other, kBody);
    ASSERT_TRUE(out);
    EXPECT_THAT(out->dropped, testing::ElementsAre("thinking"));
    EXPECT_THAT(json::serialize(out->body), testing::Not(testing::HasSubstr("Hm")));
  }
}

}  // namespace
}  // namespace sluice::gateway::ai
