// Which calls a section of the policy is for.
#pragma once

#include <string_view>

#include "policy/config/ai.h"

namespace sluice::gateway::ai {

// Views of the one who asks; "": there is none.
struct CallFacts {
  std::string_view key = {};  // the virtual key's name
  std::string_view team = {};
  std::string_view owner = {};
  std::string_view model = {};  // as the caller calls it
  std::string_view route = {};
};

// A `*` at the pattern's end stands for anything.
bool matches_name(std::string_view pattern, std::string_view name);
bool covers(const policy::AiScope& scope, const CallFacts& facts);

}  // namespace sluice::gateway::ai
