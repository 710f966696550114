#include "gateway/ai/meter.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include "gateway/ai/error_body.h"
#include "gateway/ai/event_keys.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai {
namespace {

// "response.…" of the Responses API; "": it is another's. The type is there twice, and is read
// where it costs least.
std::string_view responses_type(const SseEvent& event) {
  if (event.name.starts_with("response.")) return event.name;
  constexpr std::string_view kType = "{\"type\":";
  if (!event.name.empty() || !event.data.starts_with(kType)) return {};
  const std::string_view value = behind(event.data, kType.size());
  const std::uint64_t size = string_bytes(value);
  const std::string_view type = value.substr(0, size + 1).substr(size > 0 ? 1 : 0);
  return type.starts_with("response.") ? type : std::string_view();
}

// Null: it is no JSON.
json::value parsed(std::string_view data) {
  boost::system::error_code error;
  json::value value = json::parse(data, error);
  if (error) value = nullptr;
  return value;
}

const json::object* object_in(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr ? value->if_object() : nullptr;
}

}  // namespace

void meter_reply(Shape shape, const json::value& body, Metered& out) {
  const json::object* fields = body.if_object();
  if (fields == nullptr) {
    // Gemini's stream without SSE: a list of answers, of which the last one counts.
    const json::array* list = body.if_array();
    if (list != nullptr && !list->empty()) meter_reply(shape, list->back(), out);
    return;
  }
  if (const json::object* usage = object_in(*fields, usage_key(shape)))
    out.usage = usage_of(shape, *usage);
  if (auto model = text_of(*fields, model_key(shape))) out.model = std::move(*model);
}

void meter_event(Shape shape, std::string_view data, Metered& out) {
  const EventKeys keys = keys_of(shape, data);
  out.text_bytes += keys.text_bytes;
  if (!keys.usage) return;
  const json::value value = parsed(data);
  const json::object* body = value.if_object();
  const json::object* about = body != nullptr ? object_in(*body, "response") : nullptr;
  if (about != nullptr)
    meter_reply(shape, *about, out);
  else
    meter_reply(shape, value, out);
}

StreamMeter::Seen StreamMeter::see(const SseEvent& event) {
  const std::string_view type = shape_ == Shape::openai ? responses_type(event) : "";
  if (!type.empty()) return responses(type, event);
  const EventKeys keys = keys_of(shape_, event.data);
  metered_.text_bytes += keys.text_bytes;
  if (first_ && event.data != "[DONE]") {
    first_ = false;
    const json::value value = parsed(event.data);
    if (const json::object* body = value.if_object()) {
      if (body->contains("error")) {
        fail(event);
        return {};
      }
      const json::object* message = object_in(*body, "message");
      if (auto model = text_of(message != nullptr ? *message : *body, model_key(shape_)))
        metered_.model = std::move(*model);
    } else {
      failure_ = Problem::upstream("an event of the stream is not a JSON object");
      return {};
    }
  }
  switch (shape_) {
    case Shape::anthropic:
      return anthropic(event);
    case Shape::gemini:
      return gemini(event, keys);
    case Shape::openai:
      break;
  }
  return openai(event, keys);
}

// The Responses API: its last event repeats the answer as a whole, with what it took.
StreamMeter::Seen StreamMeter::responses(std::string_view type, const SseEvent& event) {
  constexpr std::string_view kDelta = "\"delta\":";
  first_ = false;
  if (type.ends_with(".delta")) {
    const std::size_t at = event.data.find(kDelta);
    if (at != std::string_view::npos)
      metered_.text_bytes += string_bytes(behind(event.data, at + kDelta.size()));
    return {.content = true};
  }
  const bool last = type == "response.completed" || type == "response.incomplete" ||
                    type == "response.failed" || type == "response.cancelled";
  if (!last && type != "response.created") return {.content = false};
  const json::value value = parsed(event.data);
  const json::object* body = value.if_object();
  const json::object* response = body != nullptr ? object_in(*body, "response") : nullptr;
  if (response == nullptr) {
    failure_ = Problem::upstream("an event of the stream is not what it says");
    return {};
  }
  meter_reply(shape_, *response, metered_);
  whole_ = whole_ || last;
  over_ = over_ || last;
  return {.content = last};
}

void StreamMeter::fail(const SseEvent& event) {
  failure_ = codec(shape_).read_problem(502, parsed(event.data));
}

StreamMeter::Seen StreamMeter::openai(const SseEvent& event, const EventKeys& keys) {
  if (event.data == "[DONE]") {
    whole_ = over_ = true;
    return {.content = true};
  }
  const bool error = event.data.starts_with("{\"error\"") ||
                     event.data.starts_with("{\"object\":\"error\"") ||
                     event.data.starts_with("{\"object\": \"error\"");
  if (error || event.name == "error") {
    fail(event);
    return {};
  }
  if (keys.finished) whole_ = true;
  Seen seen{.content = keys.finished || keys.media || metered_.text_bytes > 0 ||
                       event.data.find("\"tool_calls\"") != std::string_view::npos};
  if (!keys.usage) return seen;
  const json::value value = parsed(event.data);
  const json::object* body = value.if_object();
  const json::object* usage = body != nullptr ? object_in(*body, "usage") : nullptr;
  if (usage == nullptr) return seen;
  metered_.usage = usage_of(shape_, *usage);
  const json::value* choices = body->if_contains("choices");
  const json::array* list = choices != nullptr ? choices->if_array() : nullptr;
  seen.usage_only = list != nullptr && list->empty();
  return seen;
}

StreamMeter::Seen StreamMeter::anthropic(const SseEvent& event) {
  if (event.name == "error") {
    fail(event);
    return {};
  }
  if (event.name == "message_stop") whole_ = over_ = true;
  if (event.name == "message_start" || event.name == "message_delta") {
    const json::value value = parsed(event.data);
    const json::object* body = value.if_object();
    const json::object* holder = body;
    if (body != nullptr && event.name == "message_start") holder = object_in(*body, "message");
    const json::object* usage = holder != nullptr ? object_in(*holder, "usage") : nullptr;
    if (usage != nullptr) {
      for (const auto& member : *usage)
        counts_[member.key()] = member.value();
      metered_.usage = usage_from_anthropic(counts_);
    }
  }
  return {.content = event.name != "message_start" && event.name != "ping"};
}

StreamMeter::Seen StreamMeter::gemini(const SseEvent& event, const EventKeys& keys) {
  if (event.data.starts_with("{\"error\"")) {
    fail(event);
    return {};
  }
  if (keys.finished) whole_ = over_ = true;  // there is no other last word
  if (keys.usage) {
    const json::value value = parsed(event.data);
    meter_reply(shape_, value, metered_);
  }
  return {.content = true};
}

}  // namespace sluice::gateway::ai
