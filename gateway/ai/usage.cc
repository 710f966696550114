#include "gateway/ai/usage.h"

#include <algorithm>

namespace sluice::gateway::ai {
namespace {

std::int64_t count(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) return 0;
  if (const auto* number = value->if_int64()) return std::max<std::int64_t>(0, *number);
  return 0;
}

std::int64_t count(const json::object& object, std::string_view part, std::string_view key) {
  const json::value* value = object.if_contains(part);
  const json::object* details = value != nullptr ? value->if_object() : nullptr;
  return details != nullptr ? count(*details, key) : 0;
}

std::int64_t without(std::int64_t total, std::int64_t part) {
  return std::max<std::int64_t>(0, total - part);
}

// How OpenAI calls what went in and what came out.
struct Words {
  std::string_view in, in_details, out, out_details;
};
constexpr Words kChatWords{"prompt_tokens", "prompt_tokens_details", "completion_tokens",
                           "completion_tokens_details"};
constexpr Words kResponsesWords{"input_tokens", "input_tokens_details", "output_tokens",
                                "output_tokens_details"};

Usage of_openai(const json::object& usage, const Words& words) {
  const std::int64_t cached = count(usage, words.in_details, "cached_tokens");
  return {.uncached = without(count(usage, words.in), cached),
          .cache_read = cached,
          .output = count(usage, words.out),
          .reasoning = count(usage, words.out_details, "reasoning_tokens")};
}

}  // namespace

Usage usage_from_openai(const json::object& usage) {
  return of_openai(usage, kChatWords);
}

Usage usage_from_anthropic(const json::object& usage) {
  return {.uncached = count(usage, "input_tokens"),
          .cache_read = count(usage, "cache_read_input_tokens"),
          .cache_write = count(usage, "cache_creation_input_tokens"),
          .output = count(usage, "output_tokens")};
}

Usage usage_from_responses(const json::object& usage) {
  return of_openai(usage, kResponsesWords);
}

Usage usage_from_gemini(const json::object& usage) {
  const std::int64_t cached = count(usage, "cachedContentTokenCount");
  const std::int64_t thoughts = count(usage, "thoughtsTokenCount");
  const std::int64_t prompt =
      count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount");
  return {.uncached = without(prompt, cached),
          .cache_read = cached,
          .output = count(usage, "candidatesTokenCount") + thoughts,
          .reasoning = thoughts};
}

Usage usage_of(Shape shape, const json::object& counts) {
  switch (shape) {
    case Shape::anthropic:
      return usage_from_anthropic(counts);
    case Shape::gemini:
      return usage_from_gemini(counts);
    case Shape::openai:
      break;
  }
  if (counts.contains("input_tokens_details") || counts.contains("output_tokens_details"))
    return usage_from_responses(counts);
  // A few compatible services count under Anthropic's names.
  if (!counts.contains("prompt_tokens") && counts.contains("input_tokens"))
    return usage_from_anthropic(counts);
  return usage_from_openai(counts);
}

json::object openai_usage(const Usage& usage) {
  json::object out{{"prompt_tokens", usage.input()},
                   {"completion_tokens", usage.output},
                   {"total_tokens", usage.input() + usage.output},
                   {"prompt_tokens_details", {{"cached_tokens", usage.cache_read}}}};
  if (usage.reasoning > 0)
    out["completion_tokens_details"] = {{"reasoning_tokens", usage.reasoning}};
  return out;
}

json::object anthropic_usage(const Usage& usage) {
  return {{"input_tokens", usage.uncached},
          {"cache_creation_input_tokens", usage.cache_write},
          {"cache_read_input_tokens", usage.cache_read},
          {"output_tokens", usage.output}};
}

json::object gemini_usage(const Usage& usage) {
  json::object out{{"promptTokenCount", usage.input()},
                   {"candidatesTokenCount", without(usage.output, usage.reasoning)},
                   {"totalTokenCount", usage.input() + usage.output}};
  if (usage.cache_read > 0) out["cachedContentTokenCount"] = usage.cache_read;
  if (usage.reasoning > 0) out["thoughtsTokenCount"] = usage.reasoning;
  return out;
}

}  // namespace sluice::gateway::ai
