#pragma once

#include <span>

#include "kernel/plan.h"
#include "kernel/sock_diag.h"

namespace sluice::kernel {

// Whether a ban leaves a connection alone, as the guard leaves its packets alone: to one of the
// node's own addresses at one of its host_ports, or of a peer that `protect` names for that port.
bool spared(const TcpSocket& socket, const Plan& plan, std::span<const Prefix> node_addresses);

}  // namespace sluice::kernel
