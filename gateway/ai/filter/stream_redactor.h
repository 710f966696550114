// Takes out of a streamed answer, in any of the callers' shapes, what a policy does not let through,
// also where it comes in pieces: of each text that goes on over events, its end is held back until
// it is clear what it is. Events in which nothing is found, and nothing held, pass as they are.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/ai/filter/text_filter.h"
#include "gateway/ai/shape.h"
#include "gateway/ai/sse.h"

namespace sluice::gateway::ai {

class StreamRedactor {
 public:
  // `filter` outlives it.
  StreamRedactor(Shape shape, const TextFilter& filter) : shape_(shape), filter_(filter) {}

  // Whole events, and what stands between them, are appended to `out`.
  void feed(std::string_view bytes, std::string& out);
  // What is left of a stream that broke off is not given out: nobody knows what it was to be. This
  // one is whole, though no event may say so.
  void end(std::string& out) { append_deltas(out); }
  const Findings& findings() const { return findings_; }

 private:
  // A text that goes on over events: "0/content", "2/partial_json".
  using Held = std::map<std::string, std::string, std::less<>>;

  void event(const SseEvent& event, std::string_view raw, std::string& out);
  bool openai(json::object& event, std::string_view name);
  bool openai_choice(json::object& choice);
  bool openai_member(std::string_view key, json::value& value, const std::string& channel,
                     bool ends);
  bool openai_parts(json::array& parts, const std::string& list, bool last);
  bool part_goes_on(json::object& part, const std::string& channel);
  json::array rest_of_parts(const std::string& list, std::string_view but);
  json::object held_part(const std::string& channel, const std::string& rest);
  bool openai_calls(json::object& delta, const std::string& index);
  bool end_openai_calls(json::object& delta, const std::string& index);
  void append_openai_rest(std::string& out);
  bool anthropic(json::object& event, std::string_view name, std::string& before);
  bool gemini(json::object& event, std::string_view name);
  bool gemini_parts(json::array& parts, const std::string& index, bool last);
  bool responses(json::object& event, std::string_view name, std::string& before);
  bool unknown(json::object& event, std::string_view name);
  bool unknown_delta(json::value& value, std::string_view member, const std::string& place,
                     std::vector<std::string>& held);
  void append_deltas(std::string& out);
  // True: it is not as it was.
  bool go_on(const std::string& channel, json::value& text);
  std::string rest_of(std::string_view channel);
  // What is held of a text that ends here goes behind what is said of it here.
  bool put_rest(json::object& holder, std::string_view key, std::string_view channel);
  bool others(json::value& value, std::string_view member);
  bool others_of(json::object& object);

  Shape shape_;
  const TextFilter& filter_;
  Findings findings_;
  SseParser parser_;
  std::string raw_;  // of the event that is being read
  Held held_;
  std::map<std::string, json::object, std::less<>> held_parts_;  // of OpenAI's lists, what is held
  Held call_ids_;      // of OpenAI's calls, by their channels
  json::object head_;  // of OpenAI's last chunk: what all of a stream have in common

  struct Delta {
    json::object event;
    std::string name;
  };
  std::map<std::string, Delta> deltas_;  // of unknown events, what is held; by their channels
  std::string deltas_kind_;              // all of these are of one
};

}  // namespace sluice::gateway::ai
