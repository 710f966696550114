// What a policy asks of the kernel, in the kernel side's own terms. Pure.
#pragma once

#include <cstdint>

#include "kernel/plan.h"
#include "policy/config.h"

namespace sluice::control {

kernel::Plan make_kernel_plan(const policy::Config& config, std::uint64_t generation,
                              std::uint32_t workers);

kernel::Prefix to_kernel(const policy::Prefix& prefix);
policy::Prefix from_kernel(const kernel::Prefix& prefix);

// The mark of the gateway's own sockets, also while nothing is intercepted: a reload may begin to.
std::uint32_t own_mark(const policy::Config& config);

}  // namespace sluice::control
