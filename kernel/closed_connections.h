// What caught connections leave in the kernel's table when nobody owns them any more: TIME_WAIT for
// a minute, mostly. Their local address is somebody else's. Once interception has ended, early
// demux finds them for the packets of a new connection with the same ports, and ip_forward() drops
// what has a socket: so they go when interception goes.
#pragma once

#include <chrono>
#include <cstddef>

#include "kernel/keeper.h"
#include "kernel/plan.h"
#include "kernel/sock_diag.h"

namespace sluice::kernel {

// Forwarded connections flow straight once nobody serves and a lease has run out.
bool bypasses_forward(const Plan& plan);

// Ends those of `which` that connections of `plan` have left: its entries caught them, or they
// carry the gateway's mark. Of sockets with an address of this node none. Returns how many.
Result<std::size_t> end_closed_connections(const Plan& plan, TcpSockets which);

// Connections may flow straight by `next` that `before` has caught.
bool catches_less(const Plan& before, const Plan& next);
// Ends those in TIME_WAIT that entries of `before` have caught and none of `next` would.
Result<std::size_t> end_closed_connections(const Plan& before, const Plan& next);

// The same for a plan that is not known: of all that have nobody and an address that is not this
// node's, which only a transparent proxy's have.
Result<std::size_t> end_closed_connections();

// Until no connection of `plan` that is closed has something on the way to its peer, or the time is
// up.
void wait_for_last_answers(const Plan& plan, std::chrono::milliseconds at_most);

}  // namespace sluice::kernel
