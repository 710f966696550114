#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/media.h"

namespace sluice::gateway::ai::anthropic {
namespace {

constexpr std::string_view kPlainText = "text/plain";

// Nullopt: base64 it stays, since it is none, or what it says is no text.
std::optional<json::string> plain_text(const std::string& media_type, const std::string& data) {
  if (media_type != kPlainText) return std::nullopt;
  const auto bytes = from_base64(data);
  if (!bytes) return std::nullopt;
  boost::system::error_code error;
  json::value text = json::parse(json::serialize(json::string(*bytes)), error);
  if (error) return std::nullopt;
  return std::move(text.get_string());
}

json::object source(const std::string& media_type, const std::string& data,
                    const std::string& url) {
  if (!url.empty()) return {{"type", "url"}, {"url", url}};
  if (auto text = plain_text(media_type, data))
    return {{"type", "text"}, {"media_type", media_type}, {"data", std::move(*text)}};
  return {{"type", "base64"}, {"media_type", media_type}, {"data", data}};
}

using Written = std::optional<json::object>;

// The API refuses text that is empty.
Written write(const Text& text, Untranslatable&) {
  if (text.text.empty()) return std::nullopt;
  return json::object{{"type", "text"}, {"text", text.text}};
}

Written write(const Refusal& refusal, Untranslatable& lost) {
  return write(Text{refusal.text}, lost);
}

Written write(const Image& image, Untranslatable&) {
  return json::object{{"type", "image"},
                      {"source", source(image.media_type, image.data, image.url)}};
}

Written write(const Document& document, Untranslatable&) {
  json::object block{{"type", "document"},
                     {"source", source(document.media_type, document.data, document.url)}};
  if (!document.name.empty()) block["title"] = document.name;
  return block;
}

Written write(const Audio&, Untranslatable& lost) {
  lost.field("input_audio");
  return std::nullopt;
}

Written write(const ToolCall& call, Untranslatable& lost) {
  auto input = parse_arguments(call.arguments);
  if (!input) {
    lost.fail("tool_calls", "the arguments of call " + call.id + " are not a JSON object");
    return std::nullopt;
  }
  return json::object{
      {"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", std::move(*input)}};
}

Written write(const ToolResult& result, Untranslatable& lost) {
  json::array content;
  for (const Part& part : result.content)
    if (auto block = write_block(part, lost)) content.push_back(std::move(*block));
  json::object block{{"type", "tool_result"}, {"tool_use_id", result.call_id}};
  if (!content.empty()) block["content"] = std::move(content);
  if (result.failed) block["is_error"] = true;
  return block;
}

// Thoughts of others carry signatures that this vendor would refuse; an unsigned one is no thought
// that it ever had.
Written write(const Thinking& thinking, Untranslatable& lost) {
  if (!thinking.redacted.empty() && thinking.vendor == Vendor::anthropic)
    return json::object{{"type", "redacted_thinking"}, {"data", thinking.redacted}};
  if (thinking.vendor != Vendor::anthropic || thinking.signature.empty()) {
    lost.hint("thinking");
    return std::nullopt;
  }
  return json::object{
      {"type", "thinking"}, {"thinking", thinking.text}, {"signature", thinking.signature}};
}

}  // namespace

std::optional<json::object> write_block(const Part& part, Untranslatable& lost) {
  Written block = std::visit([&](const auto& kind) { return write(kind, lost); }, part.content);
  if (block && part.cache) {
    json::object mark{{"type", "ephemeral"}};
    if (!part.cache->ttl.empty()) mark["ttl"] = part.cache->ttl;
    (*block)["cache_control"] = std::move(mark);
  }
  return block;
}

}  // namespace sluice::gateway::ai::anthropic
