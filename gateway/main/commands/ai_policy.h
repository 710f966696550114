// What the commands about language models look up in the policy.
#pragma once

#include <expected>
#include <string>

#include "gateway/main/arguments.h"
#include "policy/config/ai.h"

namespace sluice::control {

// `ai` of the policy that --policy names. `without` says what there is none of where it has no `ai`:
// "it has no virtual keys".
std::expected<policy::AiConfig, std::string> ai_of_policy(const Arguments& arguments,
                                                          const std::string& without);

}  // namespace sluice::control
