// The policy of a start: the one on disk, or the last good one where that is broken.
#pragma once

#include <expected>
#include <string>

#include "gateway/control/set_members.h"
#include "gateway/main/compiled_policy.h"

namespace sluice::control {

struct FirstPolicy {
  CompiledPolicy policy;
  gateway::SetMembers members;
  std::string pods = {};  // that were heard of last
  std::string problem;  // why this is not the policy on disk; empty: it is
};

// The error is everything that is wrong with the policy on disk, a line each.
std::expected<FirstPolicy, std::string> load_first_policy(const std::string& path);

// One that is in force already: members of sets are in it, but their times are in the state
// directory.
FirstPolicy take_over_policy(CompiledPolicy policy);

// Keeps `policy` for later starts. Says so, once per reason, where it cannot; nothing else depends
// on it.
void keep_as_last_good(const CompiledPolicy& policy);

}  // namespace sluice::control
