// What a dataplane of eBPF does to pods' packets: a program at TC ingress, named as Cilium's, that
// sends IPv4 out by another interface, past netfilter and routing.
#pragma once

#include <string>

#include "kernel/keeper_protocol.h"

namespace sluice::kernel::testing {

// Hangs at the end of the chain of `from` while the descriptor lives. Needs tcx (kernel_has_tcx()).
protocol::OwnedFd redirect_past_netfilter(const std::string& from, const std::string& to);

}  // namespace sluice::kernel::testing
