#include "gateway/ai/turns.h"

#include <algorithm>
#include <iterator>

namespace sluice::gateway::ai {

void add_turn(std::vector<Message>& messages, Message message) {
  if (message.parts.empty()) return;
  if (messages.empty() || messages.back().role != message.role) {
    messages.push_back(std::move(message));
    return;
  }
  auto& parts = messages.back().parts;
  std::ranges::move(message.parts, std::back_inserter(parts));
}

void results_first(std::vector<Message>& messages) {
  for (Message& message : messages) {
    std::ranges::stable_partition(message.parts, [](const Part& part) {
      return std::holds_alternative<ToolResult>(part.content);
    });
  }
}

}  // namespace sluice::gateway::ai
