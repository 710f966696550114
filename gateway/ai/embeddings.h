// Embeddings between OpenAI's shape and Gemini's; Anthropic has none.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "gateway/ai/problem.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

struct EmbeddingRequest {
  std::vector<std::string> texts;
  std::optional<std::int64_t> dimensions;
  // How the caller wants the answer.
  bool base64 = false;  // OpenAI: encoding_format
  bool single = false;  // Gemini: embedContent, not a batch
};

std::expected<EmbeddingRequest, Problem> read_embedding_request(Shape shape,
                                                                const json::value& body);
// Of Gemini: for batchEmbedContents.
std::expected<json::object, Problem> write_embedding_request(Shape shape,
                                                             const EmbeddingRequest& request,
                                                             std::string_view model);
// A vendor's answer in the caller's shape. `request`: what was asked.
std::expected<json::object, Problem> write_embedding_reply(Shape from, const json::value& body,
                                                           Shape to,
                                                           const EmbeddingRequest& request,
                                                           std::string_view model);

}  // namespace sluice::gateway::ai
