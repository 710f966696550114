// One generation of the policy as a gateway process gets it: files, sockets of the keeper, keys.
#pragma once

#include <cstdint>

#include "gateway/main/compiled_policy.h"
#include "gateway/main/gateway_supervisor.h"
#include "gateway/tls/material.h"
#include "kernel/keeper.h"

namespace sluice::control {

// `keeper` has prepared `policy`, or has it in force. The descriptors stay the keeper's.
GatewayOffer make_offer(const kernel::Keeper& keeper, const CompiledPolicy& policy,
                        std::uint64_t generation, std::uint32_t workers,
                        gateway::tls::MaterialPtr material);

}  // namespace sluice::control
