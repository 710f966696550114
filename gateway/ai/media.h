// Bytes and places in content: data URLs (RFC 2397) as OpenAI's shape has them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/conversation.h"

namespace sluice::gateway::ai {

struct DataUrl {
  std::string media_type;
  std::string data;  // base64, as it came
};
// Nullopt: another kind of URL, or not base64.
std::optional<DataUrl> parse_data_url(std::string_view url);
std::string data_url(std::string_view media_type, std::string_view data);

std::string to_base64(std::string_view bytes);
// In either alphabet; nullopt: it is no base64.
std::optional<std::string> from_base64(std::string_view text);

// All texts among `parts`, one after the other.
std::string joined_text(const std::vector<Part>& parts, std::string_view between);

// The JSON text of a tool's arguments as an object; "" is {}. Nullopt: no JSON object.
std::optional<json::object> parse_arguments(std::string_view text);
// A call whose arguments are none: what had no more tokens ends there.
bool is_unfinished_call(const Part& part);

// What calls of a conversation named, by their ids. `messages` outlives it.
class CalledTools {
 public:
  explicit CalledTools(const std::vector<Message>& messages) : messages_(messages) {}
  // "": no call has this id.
  std::string name_of(std::string_view call_id);

 private:
  const std::vector<Message>& messages_;
  bool known_ = false;  // read once, and only if somebody asks
  std::map<std::string_view, std::string_view> names_;
};

}  // namespace sluice::gateway::ai
