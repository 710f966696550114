// Admin commands about the policy itself: plan, and later apply, confirm, history.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "gateway/main/compiled_policy.h"
#include "gateway/main/policy_plan.h"

namespace sluice::control {

// {"files": [[name, text], …], "ssh"?: SSH_CONNECTION}
std::expected<std::vector<policy::PolicyFile>, std::string> files_of(
    const boost::json::object& request);
boost::json::array files_to_json(const std::vector<policy::PolicyFile>& files);

// New files are compiled as if they lay at `path` already, for what they name beside themselves; what
// is wrong with them is said of the files as they were given.
policy::Diagnostics named_as_given(policy::Diagnostics diagnostics, const std::string& path,
                                   const std::vector<policy::PolicyFile>& given);

// `path`: where the policy would lie; "": where it lies. `members`: of sets, added at run time.
// `context` without the operator's connection, which is the request's.
boost::json::object handle_plan(const CompiledPolicy& running, const std::string& path,
                                std::vector<policy::PolicyFile> members,
                                const boost::json::object& request, PlanContext context);

}  // namespace sluice::control
