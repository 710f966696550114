#include "gateway/ai/media.h"

#include <utility>

#include <boost/json/parse.hpp>

namespace sluice::gateway::ai {

std::optional<DataUrl> parse_data_url(std::string_view url) {
  constexpr std::string_view kScheme = "data:";
  constexpr std::string_view kBase64 = ";base64";
  if (!url.starts_with(kScheme)) return std::nullopt;
  url.remove_prefix(kScheme.size());
  const std::size_t comma = url.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  std::string_view type = url.substr(0, comma);
  if (!type.ends_with(kBase64)) return std::nullopt;
  type.remove_suffix(kBase64.size());
  return DataUrl{std::string(type.substr(0, type.find(';'))), std::string(url.substr(comma + 1))};
}

std::string data_url(std::string_view media_type, std::string_view data) {
  std::string url = "data:";
  return url.append(media_type).append(";base64,").append(data);
}

std::string joined_text(const std::vector<Part>& parts, std::string_view between) {
  std::string joined;
  for (const Part& part : parts) {
    const auto* text = std::get_if<Text>(&part.content);
    if (text == nullptr) continue;
    if (!joined.empty()) joined += between;
    joined += text->text;
  }
  return joined;
}

std::optional<json::object> parse_arguments(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return json::object{};
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.get_object());
}

std::string CalledTools::name_of(std::string_view call_id) {
  if (!std::exchange(known_, true)) {
    for (const Message& message : messages_)
      for (const Part& part : message.parts)
        if (const auto* call = std::get_if<ToolCall>(&part.content))
          names_.emplace(call->id, call->name);
  }
  const auto named = names_.find(call_id);
  return named != names_.end() ? std::string(named->second) : std::string();
}

}  // namespace sluice::gateway::ai
