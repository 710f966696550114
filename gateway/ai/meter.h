// What an answer says of itself while it goes by: tokens, the model, whether it is whole. One for
// each shape, by the answer's own words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "gateway/ai/conversation.h"
#include "gateway/ai/problem.h"
#include "gateway/ai/shape.h"
#include "gateway/ai/sse.h"

namespace sluice::gateway::ai {

struct EventKeys;

struct Metered {
  std::optional<Usage> usage;
  std::string model;  // that answered, by the vendor's name
  // Bytes of text that have gone by, as an estimate of what a cut answer has cost.
  std::uint64_t text_bytes = 0;
};

// A token for so many bytes of text, where nobody says how many there were. What vendors publish
// for English; for other languages it is too few, so estimates settle as soon as usage is known.
inline constexpr std::uint64_t kBytesPerToken = 4;
constexpr std::int64_t estimated_tokens(std::uint64_t bytes) {
  return static_cast<std::int64_t>((bytes + kBytesPerToken - 1) / kBytesPerToken);
}

// Of a whole answer.
void meter_reply(Shape shape, const json::value& body, Metered& out);

// Of one event of a stream whose events have no order that is known here: counts stand in it, or in
// the object that it is about.
void meter_event(Shape shape, std::string_view data, Metered& out);

// Of the events of a stream in their own shape.
class StreamMeter {
 public:
  explicit StreamMeter(Shape shape) : shape_(shape) {}

  // What an event is to the one who passes it on.
  struct Seen {
    bool content = false;     // something of the answer: from here on there is no other try
    bool usage_only = false;  // OpenAI's last chunk, which only who asked for usage gets
  };
  Seen see(const SseEvent& event);

  const Metered& metered() const { return metered_; }
  const std::optional<Problem>& failure() const { return failure_; }
  bool whole() const { return whole_; }  // the stream may end here
  bool over() const { return over_; }    // its last event has come

 private:
  Seen openai(const SseEvent& event, const EventKeys& keys);
  Seen anthropic(const SseEvent& event);
  Seen gemini(const SseEvent& event, const EventKeys& keys);
  Seen responses(std::string_view type, const SseEvent& event);
  void fail(const SseEvent& event);

  Shape shape_;
  Metered metered_;
  json::object counts_;  // Anthropic's, from two places
  std::optional<Problem> failure_;
  bool first_ = true;
  bool whole_ = false;
  bool over_ = false;
};

}  // namespace sluice::gateway::ai
