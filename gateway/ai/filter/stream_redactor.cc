#include "gateway/ai/filter/stream_redactor.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include <boost/json/serialize.hpp>

#include "gateway/ai/filter/json_filter.h"

namespace sluice::gateway::ai {
namespace {

json::object* object_at(json::object& holder, std::string_view key) {
  json::value* value = holder.if_contains(key);
  return value != nullptr ? value->if_object() : nullptr;
}

json::array* array_at(json::object& holder, std::string_view key) {
  json::value* value = holder.if_contains(key);
  return value != nullptr ? value->if_array() : nullptr;
}

std::string number_at(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr && value->is_int64() ? std::to_string(value->get_int64()) : "0";
}

std::string_view string_at(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                : std::string_view();
}

bool is_set(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr && !value->is_null();
}

constexpr std::array<std::string_view, 4> kOpenAiTexts{"content", "reasoning_content", "reasoning",
                                                       "refusal"};
// Lists of parts: of Mistral's models that think, and of OpenRouter.
constexpr std::array<std::string_view, 2> kOpenAiLists{"content", "reasoning_details"};
// What a part may call its text, and OpenAI's audio its own.
constexpr std::array<std::string_view, 4> kPartTexts{"text", "thinking", "summary", "transcript"};
constexpr std::string_view kDelta = "delta";
constexpr std::array<std::string_view, 3> kAnthropicTexts{"text", "thinking", "partial_json"};

// What goes on in the deltas of streams that nobody here knows.
constexpr std::array<std::string_view, 13> kDeltaTexts{
    "delta",  "text",    "value",   "content",  "arguments", "partial_arguments", "input",
    "output", "refusal", "summary", "thinking", "reasoning", "transcript"};

template <std::size_t kSize>
bool is_one_of(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::string_view delta_type(std::string_view text) {
  if (text == "thinking") return "thinking_delta";
  return text == "text" ? "text_delta" : "input_json_delta";
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

bool names_a_tool(const json::object& call) {
  const json::value* function = call.if_contains("function");
  return function != nullptr && function->is_object() &&
         !string_at(function->get_object(), "name").empty();
}

json::object call_piece(std::string_view index, const std::string& arguments) {
  return {{"index", whole_number(index).value_or(0)}, {"function", {{"arguments", arguments}}}};
}

// It has texts, and they are empty.
bool is_silent(const json::object& part) {  // NOLINT(misc-no-recursion)
  bool silent = false;
  for (const std::string_view word : kPartTexts) {
    const json::value* said = part.if_contains(word);
    if (said == nullptr) continue;
    silent = true;
    if (said->is_string() && !said->get_string().empty()) return false;
    if (!said->is_array()) continue;
    for (const json::value& one : said->get_array())
      if (!one.is_object() || !is_silent(one.get_object())) return false;
  }
  return silent;
}

bool has_text(const json::object& part) {
  return std::ranges::any_of(kPartTexts,
                             [&](std::string_view word) { return part.contains(word); });
}

// What is held of the text it ends stands before it.
bool is_signature(const json::object& part) {
  return !has_text(part) || (is_silent(part) && is_set(part, "signature"));
}

// Texts of contents are the same text whether they come as strings or in parts.
std::string channel_of(const json::object& part, const std::string& list) {
  const std::string_view type = string_at(part, "type");
  if (type == "text" && list.ends_with("/content")) return list;
  return list + "/" + std::string(type) + "/" + number_at(part, "index");
}

// What is held of lists stands before a text of the same name.
bool put_parts(json::object& holder, std::string_view key, json::array rest) {
  if (rest.empty()) return false;
  if (const std::string said(string_at(holder, key)); !said.empty())
    rest.push_back({{"type", "text"}, {"text", said}});
  holder[key] = std::move(rest);
  return true;
}

bool put_transcript(json::object& delta, const std::string& rest) {
  json::object* audio = object_at(delta, "audio");
  if (audio == nullptr) audio = &delta["audio"].emplace_object();
  (*audio)["transcript"] = std::string(string_at(*audio, "transcript")) + rest;
  return true;
}

// The last of `calls` that has this index, and arguments; null: there is none.
json::value* arguments_of(json::array* calls, std::string_view index) {
  json::value* found = nullptr;
  for (std::size_t n = 0; calls != nullptr && n < calls->size(); ++n) {
    json::object* call = (*calls)[n].if_object();
    json::object* function = call != nullptr ? object_at(*call, "function") : nullptr;
    json::value* said = function != nullptr ? function->if_contains("arguments") : nullptr;
    if (said != nullptr && said->is_string() && number_at(*call, "index") == index) found = said;
  }
  return found;
}

std::string kind_of(const json::object& event, std::string_view name) {
  std::string kind(name);
  for (const std::string_view word : {"type", "event_type", "object"})
    kind.append("/").append(string_at(event, word));
  return kind;
}

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

void StreamRedactor::feed(std::string_view bytes, std::string& out) {
  std::size_t taken = 0;
  parser_.feed(bytes, [&](const SseEvent& one, std::size_t end) {
    if (bytes[end - 1] == '\r' && end < bytes.size() && bytes[end] == '\n') ++end;
    raw_.append(bytes.substr(taken, end - taken));
    taken = end;
    event(one, raw_, out);
    raw_.clear();
  });
  raw_.append(bytes.substr(taken));
  // Comments that keep a connection open.
  if (!parser_.at_boundary() || raw_.empty()) return;
  out.append(raw_);
  raw_.clear();
}

void StreamRedactor::event(const SseEvent& event, std::string_view raw, std::string& out) {
  std::optional<json::value> value = parse_leniently(event.data);
  json::object* object = value ? value->if_object() : nullptr;
  if (!deltas_.empty() && (object == nullptr || kind_of(*object, event.name) != deltas_kind_))
    append_deltas(out);
  if (object == nullptr) {
    if (shape_ == Shape::openai && event.data == "[DONE]") append_openai_rest(out);
    out.append(raw);
    return;
  }
  std::string before;
  bool changed = false;
  if (string_at(*object, "type").starts_with("response.")) {
    changed = responses(*object, event.name, before);
  } else if (shape_ == Shape::anthropic) {
    changed = anthropic(*object, event.name, before);
  } else if (shape_ == Shape::gemini) {
    changed = gemini(*object, event.name);
  } else {
    changed = openai(*object, event.name);
  }
  out.append(before);
  if (!changed) {
    out.append(raw);
    return;
  }
  append_sse(out, event.name, json::serialize(*value));
}

bool StreamRedactor::go_on(const std::string& channel, json::value& text) {
  if (!text.is_string()) return false;
  std::string& held = held_[channel];
  const bool nothing_held = held.empty();
  held.append(text.get_string());
  std::string ready;
  filter_.feed(held, false, ready, findings_);
  const bool same = nothing_held && held.empty() && ready == text.get_string();
  if (!same) text = ready;
  return !same;
}

std::string StreamRedactor::rest_of(std::string_view channel) {
  const auto known = held_.find(channel);
  if (known == held_.end()) return {};
  std::string out;
  filter_.feed(known->second, true, out, findings_);
  held_.erase(known);
  return out;
}

bool StreamRedactor::put_rest(json::object& holder, std::string_view key,
                              std::string_view channel) {
  const std::string rest = rest_of(channel);
  if (rest.empty()) return false;
  holder[key] = std::string(string_at(holder, key)) + rest;
  return true;
}

// Texts that are there as a whole.
bool StreamRedactor::others(json::value& value, std::string_view member) {  // NOLINT(misc-no-recursion)
  bool changed = false;
  if (json::object* object = value.if_object()) {
    changed = others_of(*object);
  } else if (json::array* array = value.if_array()) {
    for (json::value& element : *array)
      changed |= others(element, member);
  } else if (value.is_string()) {
    std::string text(value.get_string());
    if (is_opaque(member, text) || !filter_.redact(text, findings_)) return false;
    value = text;
    return true;
  }
  return changed;
}

bool StreamRedactor::others_of(json::object& object) {  // NOLINT(misc-no-recursion)
  bool changed = false;
  for (auto& entry : object)
    changed |= others(entry.value(), entry.key());
  return changed;
}

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

bool StreamRedactor::openai(json::object& event, std::string_view name) {
  json::array* choices = array_at(event, "choices");
  if (choices == nullptr) return unknown(event, name);
  for (const std::string_view key : {"id", "object", "created", "model"})
    if (const json::value* value = event.if_contains(key)) head_[key] = *value;
  bool changed = false;
  for (json::value& one : *choices)
    if (json::object* choice = one.if_object()) changed |= openai_choice(*choice);
  return changed;
}

bool StreamRedactor::openai_choice(json::object& choice) {
  const std::string index = number_at(choice, "index") + "/";
  const bool ends = !string_at(choice, "finish_reason").empty();
  bool changed = false;
  // Of the older completions.
  if (json::value* said = choice.if_contains("text")) changed |= go_on(index + "text", *said);
  if (ends) changed |= put_rest(choice, "text", index + "text");
  if (json::value* whole = choice.if_contains("message")) changed |= others(*whole, "message");
  json::object none;
  json::object* delta = object_at(choice, "delta");
  const bool has_delta = delta != nullptr;
  if (!has_delta) delta = &none;
  for (auto& member : *delta)
    changed |= openai_member(member.key(), member.value(), index + std::string(member.key()), ends);
  changed |= openai_calls(*delta, index);
  if (ends) {
    for (const std::string_view text : kOpenAiTexts)
      if (const std::string channel = index + std::string(text); !held_parts_.contains(channel))
        changed |= put_rest(*delta, text, channel);
    if (const std::string rest = rest_of(index + "audio"); !rest.empty())
      changed |= put_transcript(*delta, rest);
    changed |= end_openai_calls(*delta, index);
  }
  for (const std::string_view list : kOpenAiLists) {
    const std::string channel = index + std::string(list);
    const bool of_parts = held_parts_.contains(channel);
    if (ends || !string_at(*delta, list).empty())
      changed |=
          put_parts(*delta, list, rest_of_parts(channel, of_parts ? std::string_view() : channel));
  }
  if (!has_delta && !none.empty()) choice["delta"] = std::move(none);
  return changed;
}

bool StreamRedactor::openai_member(std::string_view key, json::value& value,
                                   const std::string& channel, bool ends) {
  if (is_one_of(kOpenAiTexts, key) && value.is_string()) {
    if (!value.get_string().empty()) held_parts_.erase(channel);  // it is of a string from here on
    return go_on(channel, value);
  }
  if (is_one_of(kOpenAiLists, key) && value.is_array())
    return openai_parts(value.get_array(), channel, ends);
  if (key == "audio" && value.is_object()) return part_goes_on(value.get_object(), channel);
  if (key == "tool_calls" || key == "function_call") return false;
  return others(value, key);  // what is yet to come
}

// A list goes on as a text does, each kind of its parts for itself; what is held of another kind
// stays before what follows it.
bool StreamRedactor::openai_parts(json::array& parts, const std::string& list, bool last) {
  bool changed = false;
  json::array out;
  const auto flush = [&](std::string_view but) {
    for (json::value& rest : rest_of_parts(list, but)) {
      out.push_back(std::move(rest));
      changed = true;
    }
  };
  for (json::value& one : parts) {
    json::object* part = one.if_object();
    const std::string channel = part != nullptr ? channel_of(*part, list) : std::string();
    if (part == nullptr || !is_silent(*part) || is_signature(*part))
      flush(part != nullptr && is_signature(*part) ? std::string_view() : channel);
    if (part == nullptr) {
      changed |= others(one, "content");
    } else {
      changed |= part_goes_on(*part, channel);
      const auto held = held_.find(channel);
      if (has_text(*part) && held != held_.end() && !held->second.empty())
        held_parts_[channel] = *part;
    }
    out.push_back(std::move(one));
  }
  if (last) flush({});
  parts = std::move(out);
  return changed;
}

bool StreamRedactor::part_goes_on(json::object& part,  // NOLINT(misc-no-recursion)
                                  const std::string& channel) {
  bool changed = false;
  for (auto& member : part) {
    json::array* inner = member.value().if_array();
    if (!is_one_of(kPartTexts, member.key())) {
      changed |= others(member.value(), member.key());
    } else if (inner == nullptr) {
      changed |= member.value().is_string() ? go_on(channel, member.value())
                                            : others(member.value(), member.key());
    } else {
      for (json::value& one : *inner)
        changed |=
            one.is_object() ? part_goes_on(one.get_object(), channel) : others(one, member.key());
    }
  }
  return changed;
}

json::array StreamRedactor::rest_of_parts(const std::string& list, std::string_view but) {
  json::array parts;
  for (auto at = held_.lower_bound(list); at != held_.end() && at->first.starts_with(list);) {
    const std::string channel = (at++)->first;
    const bool of_it = channel.size() == list.size() || channel[list.size()] == '/';
    if (!of_it || channel == but) continue;
    if (const std::string rest = rest_of(channel); !rest.empty())
      parts.push_back(held_part(channel, rest));
  }
  return parts;
}

// As the one that was there last, with this for its text.
json::object StreamRedactor::held_part(const std::string& channel, const std::string& rest) {
  const auto known = held_parts_.extract(channel);
  if (known.empty()) return {{"type", "text"}, {"text", rest}};
  json::object part = known.mapped();
  part.erase("signature");
  for (const std::string_view word : kPartTexts) {
    json::value* said = part.if_contains(word);
    if (said == nullptr) continue;
    if (said->is_array())
      *said = json::array{json::object{{"type", "text"}, {"text", rest}}};
    else
      *said = rest;
    break;
  }
  return part;
}

bool StreamRedactor::openai_calls(json::object& delta, const std::string& index) {
  bool changed = false;
  if (json::object* function = object_at(delta, "function_call"))
    if (json::value* said = function->if_contains("arguments"))
      changed |= go_on(index + "function_call", *said);
  json::array* calls = array_at(delta, "tool_calls");
  for (std::size_t n = 0; calls != nullptr && n < calls->size(); ++n) {
    const json::object* begun = (*calls)[n].if_object();
    if (begun == nullptr) continue;
    const std::string place = number_at(*begun, "index");
    const std::string channel = index + "call/" + place;
    // Some services give every call the same index: another id, with a name, is another call.
    if (const std::string id(string_at(*begun, "id")); !id.empty() && names_a_tool(*begun)) {
      const std::string known = std::exchange(call_ids_[channel], id);
      const std::string rest = !known.empty() && known != id ? rest_of(channel) : std::string();
      if (!rest.empty()) {
        calls->insert(calls->begin() + static_cast<std::ptrdiff_t>(n++), call_piece(place, rest));
        changed = true;
      }
    }
    json::object& call = (*calls)[n].get_object();
    json::object* function = object_at(call, "function");
    json::value* said = function != nullptr ? function->if_contains("arguments") : nullptr;
    if (said != nullptr) changed |= go_on(channel, *said);
    if (json::value* custom = call.if_contains("custom")) changed |= others(*custom, "custom");
  }
  return changed;
}

// What is left of a call that is in this very chunk belongs to it.
bool StreamRedactor::end_openai_calls(json::object& delta, const std::string& index) {
  bool changed = false;
  if (const std::string rest = rest_of(index + "function_call"); !rest.empty()) {
    json::object* function = object_at(delta, "function_call");
    if (function == nullptr) function = &delta["function_call"].emplace_object();
    (*function)["arguments"] = std::string(string_at(*function, "arguments")) + rest;
    changed = true;
  }
  const std::string prefix = index + "call/";
  for (auto at = held_.lower_bound(prefix); at != held_.end() && at->first.starts_with(prefix);) {
    const std::string channel = (at++)->first;
    const std::string rest = rest_of(channel);
    if (rest.empty()) continue;
    const std::string place = channel.substr(prefix.size());
    json::array* calls = array_at(delta, "tool_calls");
    if (json::value* said = arguments_of(calls, place)) {
      *said = std::string(said->get_string()) + rest;
    } else {
      if (calls == nullptr) calls = &delta["tool_calls"].emplace_array();
      calls->push_back(call_piece(place, rest));
    }
    changed = true;
  }
  return changed;
}

// Of choices that ended without a finish_reason, as some services do.
void StreamRedactor::append_openai_rest(std::string& out) {
  while (!held_.empty()) {
    const std::string channel = held_.begin()->first;
    const std::string rest = rest_of(channel);
    const std::size_t slash = channel.find('/');
    const auto index = whole_number(std::string_view(channel).substr(0, slash));
    if (rest.empty() || !index) continue;
    const std::string what = channel.substr(slash + 1);
    json::object choice{{"index", *index}, {"finish_reason", nullptr}};
    if (what == "text") {
      choice["text"] = rest;
    } else if (what == "function_call") {
      choice["delta"] = json::object{{what, json::object{{"arguments", rest}}}};
    } else if (what == "audio") {
      json::object delta;
      put_transcript(delta, rest);
      choice["delta"] = std::move(delta);
    } else if (held_parts_.contains(channel)) {
      choice["delta"] =
          json::object{{what.substr(0, what.find('/')), json::array{held_part(channel, rest)}}};
    } else if (what.starts_with("call/")) {
      choice["delta"] = json::object{{"tool_calls", json::array{call_piece(what.substr(5), rest)}}};
    } else {
      choice["delta"] = json::object{{what, rest}};
    }
    json::object event = head_;
    event["choices"] = json::array{std::move(choice)};
    append_sse(out, "", json::serialize(event));
  }
}

bool StreamRedactor::anthropic(json::object& event, std::string_view name, std::string& before) {
  const std::string_view type = string_at(event, "type");
  const std::string index = number_at(event, "index") + "/";
  if (type == "content_block_delta") {
    json::object* delta = object_at(event, "delta");
    if (delta == nullptr) return false;
    bool changed = false;
    for (auto& member : *delta) {
      const std::string_view key = member.key();
      changed |= is_one_of(kAnthropicTexts, key) ? go_on(index + std::string(key), member.value())
                                                 : others(member.value(), key);  // citations
    }
    return changed;
  }
  if (type == "content_block_stop") {
    for (const std::string_view text : kAnthropicTexts) {
      const std::string rest = rest_of(index + std::string(text));
      if (rest.empty()) continue;
      const json::object delta{{"type", delta_type(text)}, {text, rest}};
      append_sse(before, "content_block_delta",
                 json::serialize(
                     json::object{{"type", "content_block_delta"},
                                  {"index", whole_number(number_at(event, "index")).value_or(0)},
                                  {"delta", delta}}));
    }
    return false;
  }
  return unknown(event, name);
}

bool StreamRedactor::gemini(json::object& event, std::string_view name) {
  json::array* candidates = array_at(event, "candidates");
  if (candidates == nullptr) return unknown(event, name);
  bool changed = false;
  for (json::value& one : *candidates) {
    json::object* candidate = one.if_object();
    if (candidate == nullptr) continue;
    const std::string index = number_at(*candidate, "index") + "/";
    const bool ends = is_set(*candidate, "finishReason");
    for (auto& member : *candidate)
      if (member.key() != "content") changed |= others(member.value(), member.key());
    json::object* content = object_at(*candidate, "content");
    json::array* parts = content != nullptr ? array_at(*content, "parts") : nullptr;
    json::array none;
    const bool has_parts = parts != nullptr;
    changed |= gemini_parts(has_parts ? *parts : none, index, ends);
    if (has_parts || none.empty()) continue;
    if (content == nullptr) content = &((*candidate)["content"] = {{"role", "model"}}).as_object();
    (*content)["parts"] = std::move(none);
  }
  return changed;
}

// What is held of another kind of text stays before what follows it.
bool StreamRedactor::gemini_parts(json::array& parts, const std::string& index, bool last) {
  bool changed = false;
  json::array out;
  const auto flush = [&](std::string_view but) {
    for (const std::string_view kind : {"thought", "text"}) {
      const std::string rest = kind != but ? rest_of(index + std::string(kind)) : std::string();
      if (rest.empty()) continue;
      json::object part{{"text", rest}};
      if (kind == "thought") part["thought"] = true;
      out.push_back(std::move(part));
      changed = true;
    }
  };
  for (json::value& one : parts) {
    if (json::object* part = one.if_object()) {
      const std::string_view kind = is_set(*part, "thought") ? "thought" : "text";
      json::value* said = part->if_contains("text");
      if (said == nullptr || !string_at(*part, "text").empty())
        flush(said != nullptr ? kind : std::string_view());
      for (auto& member : *part)
        changed |= &member.value() == said ? go_on(index + std::string(kind), *said)
                                           : others(member.value(), member.key());
    }
    out.push_back(std::move(one));
  }
  if (last) flush({});
  parts = std::move(out);
  return changed;
}

// The Responses API: deltas of one text have its names, and what ends it repeats it as a whole.
bool StreamRedactor::responses(json::object& event, std::string_view name, std::string& before) {
  const std::string type(string_at(event, "type"));
  const auto channel_of = [&](std::string_view what) {
    return std::string(what) + "/" + number_at(event, "output_index") + "/" +
           number_at(event, "content_index") + "/" + number_at(event, "summary_index");
  };
  json::value* delta = event.if_contains("delta");
  if (type.ends_with(".delta") && delta != nullptr)
    return go_on(channel_of(std::string_view(type).substr(0, type.size() - 6)), *delta);
  if (type.ends_with(".done")) {
    const std::string what = type.substr(0, type.size() - 5);
    const std::string rest = rest_of(channel_of(what));
    if (!rest.empty()) {
      json::object more = event;
      for (const std::string_view whole : {"text", "arguments", "refusal", "part", "item"})
        more.erase(whole);
      more["type"] = what + ".delta";
      more["delta"] = rest;
      append_sse(before, name.empty() ? "" : what + ".delta", json::serialize(more));
    }
  }
  return others_of(event);
}

}  // namespace sluice::gateway::ai
