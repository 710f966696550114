// Connections that are open while a new plan comes into force, and what their entry's `on_change`
// says.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/peer_interfaces.h"
#include "kernel/plan.h"
#include "kernel/sock_diag.h"

namespace sluice::kernel {

// The same connection as its peer has it.
TcpSocket other_end(const TcpSocket& socket);

// The entry that catches a connection whose local end is `socket`; nullptr: none. By addresses and
// ports alone: cgroups are not asked.
const Intercept* entry_of(const Plan& plan, const NodeView& node, const TcpSocket& socket);

// True when a rule of the guard drops packets of this connection, either way, where it looks at
// them.
bool dropped_by_guard(const Plan& plan, PeerInterfaces& peers, const TcpSocket& socket);

// What becomes of a proxied connection when `next` follows `before`; nullopt: nothing changes for
// it. It does when no entry of the same way and listener catches it any more, or when a rule drops
// it that did not before.
std::optional<OnChange> change_for(const Plan& before, const Plan& next, const NodeView& node,
                                   PeerInterfaces& peers, const TcpSocket& socket);

// The connections that are open, and what `next` would do to them, were it to follow `before`.
struct ConnectionImpact {
  std::vector<TcpSocket> open;
  std::size_t changed = 0;  // of them: a rule that catches or drops them changes
  std::size_t drained = 0;  // of `changed`: take no further request
  std::size_t reset = 0;    // of `changed`: end at once; the others go on
};
Result<ConnectionImpact> impact_of(const Plan& before, const Plan& next);

// SO_COOKIE of those whose entry says drain.
Result<std::vector<std::uint64_t>> connections_to_drain(const Plan& before, const Plan& next,
                                                        const NodeView& node);
// Ends those whose entry says reset. Returns how many.
Result<std::size_t> reset_refused_connections(const Plan& before, const Plan& next,
                                              const NodeView& node);

}  // namespace sluice::kernel
