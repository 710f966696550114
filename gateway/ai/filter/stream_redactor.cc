#include "gateway/ai/filter/stream_redactor.h"

#include <array>
#include <optional>

#include <boost/json/array.hpp>
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

constexpr std::array<std::string_view, 3> kOpenAiTexts{"content", "reasoning_content", "refusal"};
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
  if (object == nullptr) {
    out.append(raw);  // [DONE]
    return;
  }
  std::string before;
  bool changed = false;
  if (string_at(*object, "type").starts_with("response.")) {
    changed = responses(*object, event.name, before);
  } else if (shape_ == Shape::anthropic) {
    changed = anthropic(*object, before);
  } else {
    changed = shape_ == Shape::gemini ? gemini(*object) : openai(*object);
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

// Texts that are there as a whole.
bool StreamRedactor::others(json::value& value, std::string_view member) {  // NOLINT(misc-no-recursion)
  bool changed = false;
  if (json::object* object = value.if_object()) {
    for (auto& entry : *object)
      changed |= others(entry.value(), entry.key());
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

bool StreamRedactor::openai(json::object& event) {
  json::array* choices = array_at(event, "choices");
  bool changed = false;
  for (std::size_t i = 0; choices != nullptr && i < choices->size(); ++i) {
    json::object* choice = (*choices)[i].if_object();
    json::object* delta = choice != nullptr ? object_at(*choice, "delta") : nullptr;
    if (delta == nullptr) continue;
    const std::string index = number_at(*choice, "index") + "/";
    for (const std::string_view text : kOpenAiTexts)
      if (json::value* said = delta->if_contains(text))
        changed |= go_on(index + std::string(text), *said);
    json::array* calls = array_at(*delta, "tool_calls");
    for (std::size_t n = 0; calls != nullptr && n < calls->size(); ++n) {
      json::object* call = (*calls)[n].if_object();
      json::object* function = call != nullptr ? object_at(*call, "function") : nullptr;
      json::value* said = function != nullptr ? function->if_contains("arguments") : nullptr;
      if (said != nullptr) changed |= go_on(index + "call/" + number_at(*call, "index"), *said);
    }
    if (!is_set(*choice, "finish_reason")) continue;
    for (const std::string_view text : kOpenAiTexts) {
      const std::string rest = rest_of(index + std::string(text));
      if (rest.empty()) continue;
      (*delta)[text] = std::string(string_at(*delta, text)) + rest;
      changed = true;
    }
    json::array left;
    for (auto at = held_.lower_bound(index + "call/");
         at != held_.end() && at->first.starts_with(index + "call/");) {
      const std::string channel = at->first;
      ++at;
      const std::string rest = rest_of(channel);
      if (rest.empty()) continue;
      left.push_back({{"index", std::stoll(channel.substr(index.size() + 5))},
                      {"function", {{"arguments", rest}}}});
    }
    if (left.empty()) continue;
    (*delta)["tool_calls"] = std::move(left);
    changed = true;
  }
  return changed;
}

bool StreamRedactor::anthropic(json::object& event, std::string& before) {
  const std::string_view type = string_at(event, "type");
  const std::string index = number_at(event, "index") + "/";
  if (type == "content_block_delta") {
    json::object* delta = object_at(event, "delta");
    bool changed = false;
    for (const std::string_view text : kAnthropicTexts)
      if (json::value* said = delta != nullptr ? delta->if_contains(text) : nullptr)
        changed |= go_on(index + std::string(text), *said);
    return changed;
  }
  if (type == "content_block_stop") {
    for (const std::string_view text : kAnthropicTexts) {
      const std::string rest = rest_of(index + std::string(text));
      if (rest.empty()) continue;
      const json::object delta{{"type", delta_type(text)}, {text, rest}};
      append_sse(before, "content_block_delta",
                 json::serialize(json::object{{"type", "content_block_delta"},
                                              {"index", std::stoll(index)},
                                              {"delta", delta}}));
    }
    return false;
  }
  if (type != "content_block_start") return false;
  json::value* block = event.if_contains("content_block");
  return block != nullptr && others(*block, "");
}

bool StreamRedactor::gemini(json::object& event) {
  json::array* candidates = array_at(event, "candidates");
  bool changed = false;
  for (std::size_t i = 0; candidates != nullptr && i < candidates->size(); ++i) {
    json::object* candidate = (*candidates)[i].if_object();
    if (candidate == nullptr) continue;
    const std::string index = number_at(*candidate, "index") + "/";
    json::object* content = object_at(*candidate, "content");
    json::array* parts = content != nullptr ? array_at(*content, "parts") : nullptr;
    for (std::size_t n = 0; parts != nullptr && n < parts->size(); ++n) {
      json::object* part = (*parts)[n].if_object();
      if (part == nullptr) continue;
      const std::string channel = index + (is_set(*part, "thought") ? "thought" : "text");
      if (json::value* said = part->if_contains("text")) changed |= go_on(channel, *said);
      if (json::value* call = part->if_contains("functionCall")) changed |= others(*call, "");
    }
    if (!is_set(*candidate, "finishReason")) continue;
    for (const std::string_view channel : {"thought", "text"}) {
      const std::string rest = rest_of(index + std::string(channel));
      if (rest.empty()) continue;
      if (content == nullptr) content = &((*candidate)["content"] = {{"role", "model"}}).as_object();
      if (array_at(*content, "parts") == nullptr) (*content)["parts"] = json::array{};
      json::object part{{"text", rest}};
      if (channel == "thought") part["thought"] = true;
      (*content)["parts"].as_array().push_back(std::move(part));
      changed = true;
    }
  }
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
  json::value all = std::move(event);
  const bool changed = others(all, "");
  event = std::move(all.as_object());
  return changed;
}

}  // namespace sluice::gateway::ai
