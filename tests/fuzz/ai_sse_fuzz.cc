// Server-sent events in pieces of any size: what is read does not depend on where they were cut, a
// stream that passes is the vendor's byte for byte, but for the empty line that its last event may
// lack, and what an event says is what a search for each key finds.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "gateway/ai/event_keys.h"
#include "gateway/ai/sse.h"
#include "gateway/ai/stream_filter.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::gateway::ai;
using sluice::fuzz::require;

constexpr std::string_view kEmptyLine = "\n\n";

struct Read {
  bool good = true;
  bool boundary = false;
  std::vector<std::pair<std::string, std::string>> events;
  bool operator==(const Read&) const = default;
};

// `step` 0: all at once.
template <typename Feed>
void in_pieces(std::string_view text, std::size_t step, Feed feed) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = step == 0 ? text.size() : std::min(step, text.size() - at);
    feed(text.substr(at, size));
    at += size;
  }
}

Read read(std::string_view text, std::size_t step) {
  Read out;
  SseParser parser;
  in_pieces(text, step, [&](std::string_view piece) {
    out.good = out.good && parser.feed(piece, [&](const SseEvent& event) {
      out.events.emplace_back(event.name, event.data);
    });
  });
  out.boundary = parser.at_boundary();
  return out;
}

struct Passed {
  std::string out;
  bool failed = false;
};

Passed pass(Shape shape, std::string_view text, std::size_t step, bool hide_usage) {
  Passed passed;
  const auto filter = passing_filter(shape, hide_usage);
  in_pieces(text, step, [&](std::string_view piece) { filter->feed(piece, passed.out); });
  filter->end(passed.out);
  passed.failed = filter->failure().has_value();
  return passed;
}

void passes(Shape shape, std::string_view text, std::size_t step) {
  const Passed passed = pass(shape, text, step, false);
  if (passed.failed) {
    require(text.starts_with(passed.out), "of a broken stream goes what was there before");
  } else {
    require(passed.out == text || passed.out == std::string(text).append(kEmptyLine),
            "a whole stream passes byte for byte");
  }
  const Passed hidden = pass(shape, text, step, true);
  require(hidden.out.size() <= text.size() + kEmptyLine.size(), "hiding adds nothing");
  const Passed at_once = pass(shape, text, 0, true);
  require(hidden.failed == at_once.failed, "pieces do not matter");
  // A comment before what is hidden goes with it, or has gone on before.
  if (!hidden.failed)
    require(read(hidden.out, 0).events == read(at_once.out, 0).events, "pieces do not matter");
}

// The first of that name is what is asked for.
bool begins(std::string_view text, std::string_view key, char with) {
  const std::size_t at = text.find(key);
  return at != std::string_view::npos && behind(text, at + key.size()).starts_with(with);
}

void keys(std::string_view text) {
  constexpr std::array<std::string_view, 7> kTexts{
      "\"content\":",  "\"text\":", "\"arguments\":",        "\"partial_json\":",
      "\"thinking\":", "\"args\":", "\"reasoning_content\":"};
  std::uint64_t bytes = 0;
  for (const std::string_view key : kTexts)
    for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1))
      bytes += string_bytes(behind(text, at + key.size()));
  const EventKeys openai = keys_of(Shape::openai, text);
  require(openai.text_bytes == bytes, "bytes of text");
  require(openai.finished == begins(text, "\"finish_reason\":", '"'), "a reason to end");
  require(openai.usage == begins(text, "\"usage\":", '{'), "usage");
  const EventKeys gemini = keys_of(Shape::gemini, text);
  require(gemini.text_bytes == bytes, "bytes of text");
  require(gemini.finished ==
              (begins(text, "\"finishReason\":", '"') || begins(text, "\"blockReason\":", '"')),
          "a reason to end");
  require(gemini.usage == begins(text, "\"usageMetadata\":", '{'), "usage");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t step = 1 + data[0] % 61;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  keys(text);
  const Read whole = read(text, 0);
  require(whole == read(text, 1), "byte by byte");
  require(whole == read(text, step), "in pieces");
  for (const Shape shape : {Shape::openai, Shape::anthropic, Shape::gemini})
    passes(shape, text, step);
  return 0;
}
