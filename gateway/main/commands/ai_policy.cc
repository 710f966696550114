#include "gateway/main/commands/ai_policy.h"

#include <utility>

#include "gateway/control/policy_source.h"
#include "gateway/main/compiled_policy.h"

namespace sluice::control {

std::expected<policy::AiConfig, std::string> ai_of_policy(const Arguments& arguments,
                                                          const std::string& without) {
  auto files = gateway::read_policy(arguments.get("policy", "/etc/sluice"));
  if (!files) return std::unexpected(files.error());
  const auto compiled = compile_policy(std::move(*files));
  if (!compiled) return std::unexpected(to_text(compiled.error()));
  const auto& ai = compiled->config().ai;
  if (!ai) return std::unexpected("the policy has no `ai`, so " + without);
  return *ai;
}

}  // namespace sluice::control
