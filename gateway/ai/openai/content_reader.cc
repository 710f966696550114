#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/media.h"
#include "gateway/ai/openai/openai.h"

namespace sluice::gateway::ai::openai {
namespace {

// Null: the part lacks what its type promises; said already.
const json::value* inner(ObjectReader& part, std::string_view key) {
  const json::value* value = part.take(key);
  if (value == nullptr) part.fail(key, "is missing");
  return value;
}

std::optional<Part> read_image(ReadState& state, ObjectReader& part) {
  const json::value* value = inner(part, "image_url");
  if (value == nullptr) return std::nullopt;
  if (const auto* url = value->if_string()) return Part{Image{{}, {}, std::string(*url), {}}};
  ObjectReader fields(state, *value, part.path("image_url"));
  Image image{.media_type = {},
              .data = {},
              .url = fields.required_text("url"),
              .detail = fields.text_or("detail")};
  if (auto data = parse_data_url(image.url)) {
    image.media_type = std::move(data->media_type);
    image.data = std::move(data->data);
    image.url.clear();
  }
  return Part{std::move(image)};
}

std::optional<Part> read_file(ReadState& state, ObjectReader& part) {
  const json::value* value = inner(part, "file");
  if (value == nullptr) return std::nullopt;
  ObjectReader fields(state, *value, part.path("file"));
  if (fields.has("file_id")) {
    state.untranslatable.push_back(part.path("file.file_id"));  // it lies with one vendor
    return std::nullopt;
  }
  auto data = parse_data_url(fields.required_text("file_data"));
  if (!data) {
    fields.fail("file_data", "must be a data URL in base64");
    return std::nullopt;
  }
  return Part{
      Document{std::move(data->media_type), std::move(data->data), {}, fields.text_or("filename")}};
}

std::optional<Part> read_audio(ReadState& state, ObjectReader& part) {
  const json::value* value = inner(part, "input_audio");
  if (value == nullptr) return std::nullopt;
  ObjectReader fields(state, *value, part.path("input_audio"));
  return Part{Audio{fields.required_text("format"), fields.required_text("data")}};
}

// Mistral's: a list of texts, among them references to what it has read.
Part read_thought(ReadState& state, ObjectReader& part) {
  Thinking thought{.text = {},
                   .signature = part.text_or("signature"),
                   .redacted = {},
                   .vendor = Vendor::mistral};
  const json::value* said = part.take("thinking");
  if (said != nullptr && said->is_string()) thought.text = said->get_string();
  const json::array* pieces = said != nullptr ? said->if_array() : nullptr;
  for (std::size_t i = 0; pieces != nullptr && i < pieces->size(); ++i)
    thought.text +=
        ObjectReader(state, (*pieces)[i], indexed(part.path("thinking"), i)).text_or("text");
  return {std::move(thought)};
}

std::optional<Part> read_part(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader part(state, value, path);
  const std::string type = part.required_text("type");
  std::optional<Part> read;
  if (type == "text")
    read = Part{Text{part.required_text("text")}};
  else if (type == "thinking")
    read = read_thought(state, part);
  else if (type == "refusal")
    read = Part{Refusal{part.required_text("refusal")}};
  else if (type == "image_url")
    read = read_image(state, part);
  else if (type == "file")
    read = read_file(state, part);
  else if (type == "input_audio")
    read = read_audio(state, part);
  else if (!type.empty())
    state.untranslatable.push_back(path);
  if (const json::value* cache = part.take("cache_control"); cache != nullptr && read) {
    ObjectReader mark(state, *cache, part.path("cache_control"));
    read->cache = CacheMark{mark.text_or("ttl")};
  }
  return read;
}

}  // namespace

std::vector<Part> read_content(ReadState& state, ObjectReader& message) {
  std::vector<Part> parts;
  const json::value* content = message.take("content");
  if (content == nullptr) return parts;
  if (const auto* text = content->if_string()) {
    if (!text->empty()) parts.push_back({Text{std::string(*text)}});
    return parts;
  }
  const auto* array = content->if_array();
  if (array == nullptr) {
    message.fail("content", "must be a string or an array of parts");
    return parts;
  }
  for (std::size_t i = 0; i < array->size(); ++i)
    if (auto part = read_part(state, (*array)[i], indexed(message.path("content"), i)))
      parts.push_back(std::move(*part));
  return parts;
}

void read_thoughts(ReadState& state, ObjectReader& message, std::vector<Part>& parts) {
  const json::array* blocks = message.array("thinking_blocks");
  message.ignore("reasoning_content");  // for people; a signed block is what a vendor takes back
  message.ignore("reasoning");
  if (blocks == nullptr) return;
  for (std::size_t i = 0; i < blocks->size(); ++i) {
    ObjectReader block(state, (*blocks)[i], indexed(message.path("thinking_blocks"), i));
    parts.push_back({Thinking{.text = block.text_or("thinking"),
                              .signature = block.text_or("signature"),
                              .redacted = block.text_or("data"),
                              .vendor = Vendor::anthropic}});
  }
}

std::vector<Part> read_tool_calls(ReadState& state, ObjectReader& message) {
  std::vector<Part> parts;
  const json::array* calls = message.array("tool_calls");
  if (calls == nullptr) return parts;
  for (std::size_t i = 0; i < calls->size(); ++i) {
    const std::string path = indexed(message.path("tool_calls"), i);
    ObjectReader call(state, (*calls)[i], path);
    const json::value* function = call.take("function");
    if (function == nullptr) {
      state.untranslatable.push_back(path);
      continue;
    }
    ObjectReader fields(state, *function, path + ".function");
    ToolCall read{.id = call.text_or("id"),
                  .name = fields.required_text("name"),
                  .arguments = {},
                  .signature = {}};
    // Some services say the object itself.
    if (const json::value* arguments = fields.take("arguments"))
      read.arguments = arguments->is_string() ? std::string(arguments->get_string())
                                              : json::serialize(*arguments);
    if (const json::value* extra = call.take("extra_content")) {
      ObjectReader vendors(state, *extra, path + ".extra_content");
      if (const json::value* google = vendors.take("google"))
        read.signature = ObjectReader(state, *google, path + ".extra_content.google")
                             .text_or("thought_signature");
    }
    parts.push_back({std::move(read)});
  }
  return parts;
}

}  // namespace sluice::gateway::ai::openai
