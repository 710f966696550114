#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/gemini/gemini.h"

namespace sluice::gateway::ai::gemini {
namespace {

bool is_image(std::string_view media_type) {
  return media_type.starts_with("image/");
}

Part media(std::string media_type, std::string data, std::string url) {
  if (media_type.starts_with("audio/") && url.empty())
    return {Audio{media_type.substr(media_type.find('/') + 1), std::move(data)}};
  if (is_image(media_type))
    return {Image{std::move(media_type), std::move(data), std::move(url), {}}};
  return {Document{std::move(media_type), std::move(data), std::move(url), {}}};
}

Part read_inline(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader blob(state, value, path);
  return media(blob.required_text("mimeType"), blob.required_text("data"), {});
}

Part read_file(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader file(state, value, path);
  return media(file.text_or("mimeType"), {}, file.required_text("fileUri"));
}

// A result that is one text under the usual name is that text.
ToolResult read_response(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader response(state, value, path);
  ToolResult result{
      .call_id = response.text_or("id"), .name = response.required_text("name"), .content = {}};
  const json::value* said = response.take("response");
  if (said == nullptr) return result;
  const json::object* fields = said->if_object();
  if (fields != nullptr && fields->size() == 1) {
    const auto& only = *fields->begin();
    result.failed = only.key() == "error";
    const bool usual = result.failed || only.key() == "output" || only.key() == "result";
    if (usual && only.value().is_string()) {
      result.content.push_back({Text{std::string(only.value().get_string())}});
      return result;
    }
  }
  result.content.push_back({Text{json::serialize(*said)}});
  return result;
}

ToolCall read_call(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader call(state, value, path);
  ToolCall read{.id = call.text_or("id"),
                .name = call.required_text("name"),
                .arguments = "{}",
                .signature = {}};
  if (const json::value* arguments = call.take("args"))
    read.arguments = json::serialize(*arguments);
  return read;
}

std::optional<Part> read_part(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader part(state, value, path);
  const std::string signature = part.text_or("thoughtSignature");
  const bool thought = part.boolean("thought").value_or(false);
  if (auto text = part.text("text")) {
    if (thought) return Part{Thinking{std::move(*text), {}, {}, Vendor::gemini}};
    return Part{Text{std::move(*text)}};
  }
  if (const json::value* call = part.take("functionCall")) {
    ToolCall read = read_call(state, *call, path + ".functionCall");
    read.signature = signature;
    return Part{std::move(read)};
  }
  if (const json::value* response = part.take("functionResponse"))
    return Part{read_response(state, *response, path + ".functionResponse")};
  if (const json::value* blob = part.take("inlineData"))
    return read_inline(state, *blob, path + ".inlineData");
  if (const json::value* file = part.take("fileData"))
    return read_file(state, *file, path + ".fileData");
  if (signature.empty()) state.untranslatable.push_back(path);  // code that the vendor runs, …
  return std::nullopt;
}

}  // namespace

std::vector<Part> read_parts(ReadState& state, ObjectReader& content,
                             const std::string& call_prefix, std::size_t& calls) {
  std::vector<Part> parts;
  const json::array* array = content.array("parts");
  for (std::size_t i = 0; array != nullptr && i < array->size(); ++i) {
    auto part = read_part(state, (*array)[i], indexed(content.path("parts"), i));
    if (!part) continue;
    if (auto* call = std::get_if<ToolCall>(&part->content)) {
      if (call->id.empty()) call->id = call_prefix + std::to_string(calls);
      ++calls;
    }
    parts.push_back(std::move(*part));
  }
  return parts;
}

}  // namespace sluice::gateway::ai::gemini
