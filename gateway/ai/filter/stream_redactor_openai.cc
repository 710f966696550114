// OpenAI's streams, and of those who speak its shape: deltas of choices, in strings, lists and calls.
#include <algorithm>
#include <array>
#include <utility>

#include <boost/json/serialize.hpp>

#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/filter/stream_redactor.h"
#include "gateway/ai/filter/stream_redactor_json.h"
#include "gateway/ai/json_text.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::array<std::string_view, 4> kOpenAiTexts{"content", "reasoning_content", "reasoning",
                                                       "refusal"};

// Lists of parts: of Mistral's models that think, and of OpenRouter.
constexpr std::array<std::string_view, 2> kOpenAiLists{"content", "reasoning_details"};

// What a part may call its text, and OpenAI's audio its own.
constexpr std::array<std::string_view, 4> kPartTexts{"text", "thinking", "summary", "transcript"};

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

}  // namespace

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

}  // namespace sluice::gateway::ai
