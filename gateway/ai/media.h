// Bytes and places in content: data URLs (RFC 2397) as OpenAI's shape has them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gateway/ai/conversation.h"

namespace sluice::gateway::ai {

struct DataUrl {
  std::string media_type;
  std::string data;  // base64, as it came
};
// Nullopt: another kind of URL, or not base64.
std::optional<DataUrl> parse_data_url(std::string_view url);
std::string data_url(std::string_view media_type, std::string_view data);

// All texts among `parts`, one after the other.
std::string joined_text(const std::vector<Part>& parts, std::string_view between);

// The JSON text of a tool's arguments as an object; "" is {}. Nullopt: no JSON object.
std::optional<json::object> parse_arguments(std::string_view text);

// The tool that an earlier call with this id named; "": none.
std::string called_tool(const std::vector<Message>& messages, std::string_view call_id);

}  // namespace sluice::gateway::ai
