#include "gateway/ai/endpoint.h"

#include <gmock/gmock.h>

namespace sluice::gateway::ai {
namespace {

struct Case {
  std::string_view path;
  CallerHints hints;
  Operation operation;
  Shape shape;
  std::string_view model = "";
  bool stream = false;
};

TEST(Endpoint, SaysWhatAPathAsksFor) {
  const CallerHints none{};
  const CallerHints anthropic{.anthropic = true};
  const CallerHints gemini{.gemini = true};
  const std::vector<Case> cases{
      {"/v1/chat/completions", none, Operation::chat, Shape::openai},
      {"/chat/completions", none, Operation::chat, Shape::openai},
      {"/api/v1/llm/v1/chat/completions", none, Operation::chat, Shape::openai},
      {"/v1/embeddings", none, Operation::embeddings, Shape::openai},
      {"/v1/messages", anthropic, Operation::chat, Shape::anthropic},
      {"/v1/messages/count_tokens", none, Operation::other, Shape::anthropic},
      {"/v1/models", none, Operation::models, Shape::openai},
      {"/v1/models", anthropic, Operation::models, Shape::anthropic},
      {"/v1beta/models", none, Operation::models, Shape::gemini},
      {"/v1/models/ft:gpt-4o:me", none, Operation::models, Shape::openai, "ft:gpt-4o:me"},
      {"/v1beta/models/gemini-x:generateContent", none, Operation::chat, Shape::gemini, "gemini-x"},
      {"/v1/models/gemini-x:streamGenerateContent", none, Operation::chat, Shape::gemini,
       "gemini-x", true},
      {"/v1beta/models/gemini-x%3AgenerateContent", none, Operation::chat, Shape::gemini,
       "gemini-x"},
      {"/v1/models/a:b%3astreamGenerateContent", none, Operation::chat, Shape::gemini, "a:b", true},
      {"/v1beta/tunedModels/mine:generateContent", none, Operation::other, Shape::gemini},
      {"/v1beta/models/e:batchEmbedContents", gemini, Operation::embeddings, Shape::gemini, "e"},
      {"/v1beta/models/a/b:countTokens", gemini, Operation::other, Shape::gemini, "a/b"},
      {"/v1/images/generations", none, Operation::other, Shape::openai},
      {"/v1/files", anthropic, Operation::other, Shape::anthropic},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.path);
    const auto endpoint = parse_endpoint(one.path, one.hints);
    ASSERT_TRUE(endpoint);
    EXPECT_EQ(endpoint->operation, one.operation);
    EXPECT_EQ(endpoint->shape, one.shape);
    EXPECT_EQ(endpoint->model, one.model);
    EXPECT_EQ(endpoint->stream, one.stream);
  }
}

TEST(Endpoint, PathsOfGeminiSayWhatIsDone) {
  for (const std::string_view path :
       {"/v1beta/tunedModels/mine:generateContent", "/v1beta/tunedModels/mine%3AgenerateContent"})
    EXPECT_TRUE(has_verb(*parse_endpoint(path, {}))) << path;
  for (const std::string_view path : {"/v1beta/cachedContents", "/v1/models/ft:gpt-4o:me"})
    EXPECT_FALSE(has_verb(*parse_endpoint(path, {}))) << path;
}

TEST(Endpoint, StreamsOfOneVendorsOwnHaveNoKnownEnd) {
  for (const std::string_view path :
       {"/v1/images/generations", "/v1/audio/transcriptions", "/v1/threads/t/runs",
        "/v1/responses/r", "/v1beta/interactions"})
    EXPECT_FALSE(streams_chat(*parse_endpoint(path, {}))) << path;
  for (const std::string_view path :
       {"/v1/chat/completions", "/v1/completions", "/v1/fim/completions", "/v1/responses",
        "/v1/messages", "/v1beta/tunedModels/mine:streamGenerateContent"})
    EXPECT_TRUE(streams_chat(*parse_endpoint(path, {}))) << path;
}

TEST(Endpoint, GeminisFilesGoToAPathOfTheirOwn) {
  for (const std::string_view path : {"/upload/v1beta/files", "/team/upload/v1beta/files"}) {
    const auto endpoint = parse_endpoint(path, {});
    EXPECT_TRUE(endpoint->upload) << path;
    EXPECT_EQ(endpoint->path, "/files");
  }
  for (const std::string_view path : {"/v1beta/files", "/uploads/v1beta/files", "/upload/v1/files"})
    EXPECT_FALSE(parse_endpoint(path, {})->upload) << path;
}

TEST(Endpoint, OtherPathsAreNone) {
  for (const std::string_view path : {"/", "/v1", "/v10/chat", "/index.html", ""})
    EXPECT_FALSE(parse_endpoint(path, {})) << path;
}

}  // namespace
}  // namespace sluice::gateway::ai
