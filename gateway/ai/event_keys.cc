#include "gateway/ai/event_keys.h"

#include <algorithm>
#include <array>

namespace sluice::gateway::ai {
namespace {

// Keys whose values are text of the answer.
constexpr std::array<std::string_view, 10> kTextKeys{
    "content", "text",      "arguments",         "partial_json", "thinking",
    "args",    "reasoning", "reasoning_content", "refusal",      "transcript"};
constexpr std::size_t kLongestKey = 20;  // bytes; of those that anybody looks for

// Calls `found` for each key and the place behind its colon. One look at each colon costs a
// fraction of a search for each key. In JSON's text a key within a string has its quotes escaped,
// so that what is found is a key.
template <typename Found>
void each_key(std::string_view data, Found&& found) {
  for (std::size_t colon = data.find(':'); colon != std::string_view::npos;
       colon = data.find(':', colon + 1)) {
    if (colon < 2 || data[colon - 1] != '"') continue;
    const std::size_t end = colon - 1;
    const std::size_t least = end > kLongestKey ? end - kLongestKey : 1;
    std::size_t begin = end;
    while (begin > least && data[begin - 1] != '"')
      --begin;
    if (data[begin - 1] == '"') found(data.substr(begin, end - begin), colon + 1);
  }
}

// The first of a name alone says something.
struct First {
  std::string_view name;
  char value = '\0';  // how its value has to begin
  bool seen = false;
  bool holds = false;

  void see(std::string_view key, std::string_view data, std::size_t at) {
    if (seen || key != name) return;
    seen = true;
    holds = behind(data, at).starts_with(value);
  }
};

}  // namespace

std::string_view behind(std::string_view data, std::size_t at) {
  data.remove_prefix(at);
  while (data.starts_with(' '))
    data.remove_prefix(1);
  return data;
}

std::uint64_t string_bytes(std::string_view data) {
  if (!data.starts_with('"')) return 0;
  for (std::size_t at = 1; at < data.size(); ++at) {
    if (data[at] == '\\')
      ++at;
    else if (data[at] == '"')
      return at - 1;
  }
  return 0;
}

EventKeys keys_of(Shape shape, std::string_view data) {
  const bool gemini = shape == Shape::gemini;
  First finish{.name = gemini ? "finishReason" : "finish_reason", .value = '"'};
  First block{.name = gemini ? "blockReason" : "", .value = '"'};
  First usage{.name = gemini ? "usageMetadata" : "usage", .value = '{'};
  First sound{.name = "audio", .value = '{'};
  First pictures{.name = "images", .value = '['};
  EventKeys out;
  each_key(data, [&](std::string_view key, std::size_t at) {
    if (std::ranges::find(kTextKeys, key) != kTextKeys.end()) {
      out.text_bytes += string_bytes(behind(data, at));
      return;
    }
    finish.see(key, data, at);
    if (gemini) block.see(key, data, at);
    usage.see(key, data, at);
    sound.see(key, data, at);
    pictures.see(key, data, at);
  });
  out.media = sound.holds || pictures.holds;
  out.finished = finish.holds || block.holds;
  out.usage = usage.holds;
  return out;
}

}  // namespace sluice::gateway::ai
