#include "gateway/ai/media.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include <boost/json/parse.hpp>

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kBase64Digits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

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

std::string to_base64(std::string_view bytes) {
  constexpr std::size_t kGroup = 3;
  std::string out;
  out.reserve((bytes.size() + kGroup - 1) / kGroup * 4);
  for (; !bytes.empty(); bytes.remove_prefix(std::min(kGroup, bytes.size()))) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < kGroup; ++i)
      group = group << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U);
    for (std::size_t i = 0; i <= kGroup; ++i)
      out.push_back(i <= bytes.size() ? kBase64Digits[group >> (18 - 6 * i) & 63] : '=');
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  while (text.ends_with('='))
    text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const std::size_t digit = kBase64Digits.find(c == '-' ? '+' : c == '_' ? '/' : c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out.push_back(static_cast<char>(bits >> held & 0xff));
  }
  return out;
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

bool is_unfinished_call(const Part& part) {
  const auto* call = std::get_if<ToolCall>(&part.content);
  return call != nullptr && !parse_arguments(call->arguments);
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
