#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/media.h"

namespace sluice::gateway::ai::anthropic {
namespace {

struct Source {
  std::string media_type;
  std::string data;
  std::string url;
  bool elsewhere = false;  // a file that lies with the vendor
};

Source read_source(ReadState& state, ObjectReader& block) {
  Source source;
  const json::value* value = block.take("source");
  if (value == nullptr) {
    block.fail("source", "is missing");
    return source;
  }
  ObjectReader fields(state, *value, block.path("source"));
  const std::string type = fields.required_text("type");
  if (type == "base64" || type == "text") {
    source.media_type = fields.required_text("media_type");
    source.data = fields.required_text("data");
    if (type == "text") source.data = to_base64(source.data);  // as all other data are
  } else if (type == "url") {
    source.url = fields.required_text("url");
  } else {
    source.elsewhere = true;
    state.untranslatable.push_back(block.path("source"));
  }
  return source;
}

std::optional<Part> read_result(ReadState& state, ObjectReader& block) {
  ToolResult result{.call_id = block.required_text("tool_use_id"), .name = {}, .content = {}};
  if (const json::value* content = block.take("content"))
    result.content = read_blocks(state, *content, block.path("content"));
  result.failed = block.boolean("is_error").value_or(false);
  return Part{std::move(result)};
}

std::optional<Part> read_call(ObjectReader& block) {
  ToolCall call{.id = block.required_text("id"),
                .name = block.required_text("name"),
                .arguments = {},
                .signature = {}};
  const json::value* input = block.take("input");
  call.arguments = input != nullptr ? json::serialize(*input) : "{}";
  return Part{std::move(call)};
}

std::optional<Part> read_media(ReadState& state, ObjectReader& block, bool image) {
  Source source = read_source(state, block);
  if (source.elsewhere) return std::nullopt;
  if (image)
    return Part{
        Image{std::move(source.media_type), std::move(source.data), std::move(source.url), {}}};
  block.ignore("context");
  return Part{Document{std::move(source.media_type), std::move(source.data), std::move(source.url),
                       block.text_or("title")}};
}

std::optional<Part> read_block(ReadState& state, const json::value& value,
                               const std::string& path) {
  ObjectReader block(state, value, path);
  const std::string type = block.required_text("type");
  std::optional<Part> part;
  if (type == "text")
    part = Part{Text{block.required_text("text")}};
  else if (type == "image" || type == "document")
    part = read_media(state, block, type == "image");
  else if (type == "tool_use")
    part = read_call(block);
  else if (type == "tool_result")
    part = read_result(state, block);
  else if (type == "thinking")
    part = Part{
        Thinking{block.text_or("thinking"), block.text_or("signature"), {}, Vendor::anthropic}};
  else if (type == "redacted_thinking")
    part = Part{Thinking{{}, {}, block.required_text("data"), Vendor::anthropic}};
  else if (!type.empty())
    state.untranslatable.push_back(path);  // tools that the vendor runs
  if (const json::value* cache = block.take("cache_control"); cache != nullptr && part)
    part->cache = CacheMark{ObjectReader(state, *cache, path + ".cache_control").text_or("ttl")};
  return part;
}

}  // namespace

std::vector<Part> read_blocks(ReadState& state, const json::value& content,
                              const std::string& path) {
  std::vector<Part> parts;
  if (const auto* text = content.if_string()) {
    if (!text->empty()) parts.push_back({Text{std::string(*text)}});
    return parts;
  }
  const auto* blocks = content.if_array();
  if (blocks == nullptr) {
    state.fail(path, "must be a string or an array of blocks");
    return parts;
  }
  for (std::size_t i = 0; i < blocks->size(); ++i)
    if (auto part = read_block(state, (*blocks)[i], indexed(path, i)))
      parts.push_back(std::move(*part));
  return parts;
}

}  // namespace sluice::gateway::ai::anthropic
