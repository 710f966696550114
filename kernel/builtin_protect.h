// Servers that are never intercepted, whatever the policy says: the default gateways, the resolvers
// of /etc/resolv.conf (ports 53 and 853) and, in a pod, the API server. Neighbour discovery, ICMP
// and DHCP need no mention here: interception looks at TCP, and at UDP to port 443.
#pragma once

#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel {

std::vector<Protect> builtin_protect();

}  // namespace sluice::kernel
