// Mistral takes ids of tool calls only as nine letters and digits.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace sluice::gateway::ai::openai {

// One per request: the same id is always written the same, two ids never alike.
class MistralIds {
 public:
  const std::string& operator()(std::string_view id);

 private:
  std::unordered_map<std::string, std::string> written_;
  std::unordered_set<std::string> taken_;
};

}  // namespace sluice::gateway::ai::openai
