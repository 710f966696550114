// How much a model is to think, in a word of OpenAI's, and what that is elsewhere.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/ai/conversation.h"
#include "gateway/ai/untranslatable.h"

namespace sluice::gateway::ai {

struct EffortLevel {
  std::string_view word;
  std::string_view common;     // the nearest of those that every service knows
  std::int64_t anthropic = 0;  // tokens of thinking; 0: none
  std::int64_t gemini = 0;
};

// Null: nothing is said of it, or a word that nobody knows, which `lost` is told then.
const EffortLevel* effort_of(const Reasoning& reasoning, Untranslatable& lost);

}  // namespace sluice::gateway::ai
