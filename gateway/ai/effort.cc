#include "gateway/ai/effort.h"

#include <array>

namespace sluice::gateway::ai {
namespace {

// Upwards. The most of Anthropic's leaves room for an answer among the 32,000 tokens that are the
// least bound of its thinking models; that of Gemini's is the least of its models' most.
constexpr std::array<EffortLevel, 6> kLevels{{
    {"minimal", "low", 0, 0},
    {"low", "low", 1024, 1024},
    {"medium", "medium", 4096, 8192},
    {"high", "high", 16384, 24576},
    {"xhigh", "high", 20480, 24576},
    {"max", "high", 23552, 24576},
}};

}  // namespace

const EffortLevel* effort_of(const Reasoning& reasoning, Untranslatable& lost) {
  if (reasoning.effort.empty()) return nullptr;
  for (const EffortLevel& level : kLevels)
    if (level.word == reasoning.effort) return &level;
  lost.field("reasoning_effort");
  return nullptr;
}

}  // namespace sluice::gateway::ai
