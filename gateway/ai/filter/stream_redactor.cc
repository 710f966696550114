#include "gateway/ai/filter/stream_redactor.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/json/serialize.hpp>

#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/filter/stream_redactor_json.h"
#include "gateway/ai/json_text.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::array<std::string_view, 3> kAnthropicTexts{"text", "thinking", "partial_json"};

std::string_view delta_type(std::string_view text) {
  if (text == "thinking") return "thinking_delta";
  return text == "text" ? "text_delta" : "input_json_delta";
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
