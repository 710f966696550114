// Where those are that the policy knows by name, upstreams and Redis, as the gateway says: for the
// kernel, which spares them.
#pragma once

#include <string_view>
#include <vector>

#include "kernel/plan.h"
#include "policy/config.h"

namespace sluice::control {

bool has_named_peers(const policy::Config& config);

// From the gateway's status. What is not an address is passed over: it comes from a process that
// may have been taken over.
std::vector<kernel::Prefix> hosts_of_named_peers(const policy::Config& config,
                                                 std::string_view gateway_status);

// The same of vendors (`ai.bypass`).
std::vector<kernel::Prefix> hosts_of_vendors(const policy::Config& config,
                                             std::string_view gateway_status);

}  // namespace sluice::control
