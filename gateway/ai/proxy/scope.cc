#include "gateway/ai/proxy/scope.h"

#include <algorithm>

namespace sluice::gateway::ai {
namespace {

bool any_of(const std::vector<std::string>& patterns, std::string_view name) {
  return patterns.empty() || std::ranges::any_of(patterns, [&](std::string_view pattern) {
           return matches_name(pattern, name);
         });
}

}  // namespace

bool matches_name(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

bool covers(const policy::AiScope& scope, const CallFacts& facts) {
  return any_of(scope.keys, facts.key) && any_of(scope.teams, facts.team) &&
         any_of(scope.models, facts.model) && any_of(scope.routes, facts.route);
}

}  // namespace sluice::gateway::ai
