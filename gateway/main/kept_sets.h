// A list that somebody else publishes holds up nothing but itself: at a reload a set whose file is
// bad keeps what it had, and says so until a good one is read.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "gateway/main/compiled_policy.h"
#include "gateway/metrics_samples.h"

namespace sluice::control {

// As compile_policy(), but a set whose file cannot be read or has errors gets the text of that file
// among `running`, and is among CompiledPolicy::stale and ::warnings. Where that is not all that is
// wrong: everything, the errors of files included.
std::expected<CompiledPolicy, policy::Diagnostics> compile_keeping_sets(
    const std::vector<policy::PolicyFile>& files, const std::vector<policy::PolicyFile>& running,
    const policy::SetReader& read_set);

// `file:line:column: what`, a set each.
std::vector<std::string> stale_warnings(const CompiledPolicy& policy);
std::vector<gateway::MetricSample> stale_samples(const CompiledPolicy& policy);

}  // namespace sluice::control
