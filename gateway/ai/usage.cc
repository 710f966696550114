#include "gateway/ai/usage.h"

#include <algorithm>
#include <cmath>

namespace sluice::gateway::ai {
namespace {

// Some write whole numbers as doubles. Nullopt: it is no count.
std::optional<std::int64_t> count_in(const json::object& object, std::string_view key) {
  constexpr double kMost = 1e12;  // no answer is as large, and no sum of such overflows
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return 0;
  const double number = value->is_number() ? value->to_number<double>() : -1;
  if (number >= 0 && number <= kMost && std::trunc(number) == number)
    return static_cast<std::int64_t>(number);
  return std::nullopt;
}

std::optional<std::int64_t> count_in(const PlainCounts::Object& object, std::string_view key) {
  const auto value = object.find(key);
  if (value.kind == PlainCounts::Object::Kind::object) return std::nullopt;
  return value.number;
}

const json::object* part_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr ? value->if_object() : nullptr;
}

std::optional<PlainCounts::Object> part_of(const PlainCounts::Object& object,
                                           std::string_view key) {
  return object.object(key);
}

// Reads the counts of one answer.
template <typename Object>
class Counts {
 public:
  explicit Counts(const Object& counts) : counts_(counts) {}

  std::int64_t operator()(std::string_view key) { return count(counts_, key); }
  std::int64_t operator()(std::string_view part, std::string_view key) {
    const auto details = part_of(counts_, part);
    return details ? count(*details, key) : 0;
  }
  // `usage`, as far as every count was one.
  std::optional<Usage> checked(const Usage& usage) const {
    return readable_ ? std::optional(usage) : std::nullopt;
  }

 private:
  std::int64_t count(const Object& object, std::string_view key) {
    const auto found = count_in(object, key);
    readable_ = readable_ && found;
    return found.value_or(0);
  }

  const Object& counts_;
  bool readable_ = true;
};

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

template <typename Object>
std::optional<Usage> of_openai(const Object& usage, const Words& words) {
  Counts count(usage);
  const std::int64_t cached = count(words.in_details, "cached_tokens");
  return count.checked({.uncached = without(count(words.in), cached),
                        .cache_read = cached,
                        .output = count(words.out),
                        .reasoning = count(words.out_details, "reasoning_tokens")});
}

template <typename Object>
std::optional<Usage> of_anthropic(const Object& usage) {
  Counts count(usage);
  return count.checked({.uncached = count("input_tokens"),
                        .cache_read = count("cache_read_input_tokens"),
                        .cache_write = count("cache_creation_input_tokens"),
                        .output = count("output_tokens")});
}

template <typename Object>
std::optional<Usage> of_gemini(const Object& usage) {
  Counts count(usage);
  const std::int64_t cached = count("cachedContentTokenCount");
  const std::int64_t thoughts = count("thoughtsTokenCount");
  const std::int64_t prompt = count("promptTokenCount") + count("toolUsePromptTokenCount");
  return count.checked({.uncached = without(prompt, cached),
                        .cache_read = cached,
                        .output = count("candidatesTokenCount") + thoughts,
                        .reasoning = thoughts});
}

template <typename Object>
std::optional<Usage> of_shape(Shape shape, const Object& counts) {
  switch (shape) {
    case Shape::anthropic:
      return of_anthropic(counts);
    case Shape::gemini:
      return of_gemini(counts);
    case Shape::openai:
      break;
  }
  if (counts.contains("input_tokens_details") || counts.contains("output_tokens_details"))
    return of_openai(counts, kResponsesWords);
  // A few compatible services count under Anthropic's names.
  if (!counts.contains("prompt_tokens") && counts.contains("input_tokens"))
    return of_anthropic(counts);
  return of_openai(counts, kChatWords);
}

}  // namespace

std::optional<Usage> usage_from_openai(const json::object& usage) {
  return of_openai(usage, kChatWords);
}

std::optional<Usage> usage_from_anthropic(const json::object& usage) {
  return of_anthropic(usage);
}

std::optional<Usage> usage_from_responses(const json::object& usage) {
  return of_openai(usage, kResponsesWords);
}

std::optional<Usage> usage_from_gemini(const json::object& usage) {
  return of_gemini(usage);
}

std::optional<Usage> usage_of(Shape shape, const json::object& counts) {
  return of_shape(shape, counts);
}

std::optional<Usage> usage_of(Shape shape, const PlainCounts& counts) {
  return of_shape(shape, counts.all());
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
