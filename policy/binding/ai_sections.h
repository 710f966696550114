// The parts of `ai` that have a file of their own.
#pragma once

#include "policy/config/ai.h"
#include "policy/yaml_tree.h"

namespace sluice::policy::binding {

void ai_controls(const Node& node, const Reporter& reporter, AiConfig& out);

}  // namespace sluice::policy::binding
