// Token counts as the vendors write them down, from the one form that counts each token once.
//
// OpenAI's prompt_tokens and Gemini's promptTokenCount include what came from a cache; Anthropic's
// input_tokens do not. OpenAI's completion_tokens and Anthropic's output_tokens include reasoning;
// Gemini's candidatesTokenCount does not.
#pragma once

#include <optional>
#include <string_view>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "gateway/ai/conversation.h"
#include "gateway/ai/plain_counts.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

// What is not there counts as 0; a negative difference too. Nullopt: a count is there and is none
// (a text, a fraction, negative, beyond all measure), so that nobody knows what it took.
std::optional<Usage> usage_from_openai(const json::object& usage);
std::optional<Usage> usage_from_anthropic(const json::object& usage);
// Of the Responses API: its names are Anthropic's, what they include is OpenAI's.
std::optional<Usage> usage_from_responses(const json::object& usage);
std::optional<Usage> usage_from_gemini(const json::object& usage);

// What a vendor's answer of that shape has under usage_key().
std::optional<Usage> usage_of(Shape shape, const json::object& counts);
std::optional<Usage> usage_of(Shape shape, const PlainCounts& counts);
constexpr std::string_view usage_key(Shape shape) {
  return shape == Shape::gemini ? "usageMetadata" : "usage";
}
// Whose answer it is.
constexpr std::string_view model_key(Shape shape) {
  return shape == Shape::gemini ? "modelVersion" : "model";
}

json::object openai_usage(const Usage& usage);
json::object anthropic_usage(const Usage& usage);
json::object gemini_usage(const Usage& usage);

}  // namespace sluice::gateway::ai
