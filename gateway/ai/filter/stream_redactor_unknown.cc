// Streams that no shape claims: the texts below `delta` go on by kind and place.
#include "gateway/ai/filter/stream_redactor.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/json/serialize.hpp>

#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/filter/stream_redactor_json.h"

namespace sluice::gateway::ai {
namespace {

// What goes on in the deltas of streams that nobody here knows.
constexpr std::array<std::string_view, 13> kDeltaTexts{
    "delta",  "text",    "value",   "content",  "arguments", "partial_arguments", "input",
    "output", "refusal", "summary", "thinking", "reasoning", "transcript"};

// Ids are left out: some services give each event another one.
std::string place_of(const json::object& event) {
  std::string place;
  for (const std::string_view word : {"index", "output_index", "content_index"})
    place.append(number_at(event, word)).append("/");
  return place;
}

std::string place_in(const json::array& list, std::size_t at, const std::string& place) {
  const json::object* one = list[at].if_object();
  const bool says = one != nullptr && one->contains("index");
  return place + '/' + (says ? number_at(*one, "index") : std::to_string(at));
}

// The text at `channel` says `rest`, and all others nothing.
void say_alone(json::value& value, std::string_view member,  // NOLINT(misc-no-recursion)
               const std::string& place, std::string_view channel, const std::string& rest) {
  if (json::object* object = value.if_object()) {
    for (auto& one : *object)
      say_alone(one.value(), one.key(), place + '/' + std::string(one.key()), channel, rest);
  } else if (json::array* list = value.if_array()) {
    for (std::size_t i = 0; i < list->size(); ++i)
      say_alone((*list)[i], member, place_in(*list, i, place), channel, rest);
  } else if (value.is_string() && is_one_of(kDeltaTexts, member)) {
    value = place == channel ? rest : std::string();
  }
}

}  // namespace

// Of a transcription, of a run of a thread, or an error.
bool StreamRedactor::unknown(json::object& event, std::string_view name) {
  const std::string kind = kind_of(event, name);
  const std::string place = '*' + kind + '/' + place_of(event);
  std::vector<std::string> held;
  bool changed = false;
  for (auto& member : event)
    changed |= member.key() == kDelta ? unknown_delta(member.value(), kDelta, place, held)
                                      : others(member.value(), member.key());
  for (const std::string& channel : held) {
    deltas_[channel] = {event, std::string(name)};
    deltas_kind_ = kind;
  }
  return changed;
}

bool StreamRedactor::unknown_delta(json::value& value,  // NOLINT(misc-no-recursion)
                                   std::string_view member, const std::string& place,
                                   std::vector<std::string>& held) {
  bool changed = false;
  if (json::object* object = value.if_object()) {
    for (auto& one : *object)
      changed |= unknown_delta(one.value(), one.key(), place + '/' + std::string(one.key()), held);
  } else if (json::array* list = value.if_array()) {
    for (std::size_t i = 0; i < list->size(); ++i)
      changed |= unknown_delta((*list)[i], member, place_in(*list, i, place), held);
  } else if (!is_one_of(kDeltaTexts, member)) {
    changed = others(value, member);
  } else {
    changed = go_on(place, value);
    const auto known = held_.find(place);
    if (known != held_.end() && !known->second.empty())
      held.push_back(place);
    else
      deltas_.erase(place);
  }
  return changed;
}

// Before an event of another kind, each as the last that was there, with the rest for its text.
void StreamRedactor::append_deltas(std::string& out) {
  for (auto& [channel, delta] : std::exchange(deltas_, {})) {
    const std::string rest = rest_of(channel);
    if (rest.empty()) continue;
    json::object event = delta.event;
    const std::string place = '*' + kind_of(event, delta.name) + '/' + place_of(event);
    say_alone(event[kDelta], kDelta, place, channel, rest);
    append_sse(out, delta.name, json::serialize(event));
  }
}

}  // namespace sluice::gateway::ai
