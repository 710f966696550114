// What both plain TCP and HTTP need to know before an endpoint can be picked.
#pragma once

#include <optional>

#include "gateway/session.h"
#include "gateway/worker_config.h"
#include "policy/address.h"
#include "policy/snapshot.h"

namespace sluice::gateway {

class Worker;

inline policy::Way policy_way(WayIn way) {
  return static_cast<policy::Way>(way);
}

// One of a route's upstreams, drawn by weight: its index in Config::upstreams.
std::uint32_t choose_upstream(const policy::CompiledRoute& route, Worker& worker);

// Where the counts of an attempt's endpoint are. `config`: the one that the attempt's cluster is
// of.
EndpointSlot endpoint_slot(const WorkerConfig& config, std::uint32_t upstream,
                           const Attempt& attempt);

// The attempt may have moved to another endpoint since `slot` was taken: its counts follow it.
void follow_attempt(Worker& worker, const WorkerConfig& config, std::uint32_t upstream,
                    const Attempt& attempt, EndpointSlot& slot);

// Where a caught connection (forward, output) wanted to go, unless going there would come back to
// us: then nullopt, as for connections that were made to us (bind) or steered from addresses that
// exist nowhere else (local).
std::optional<policy::SocketAddress> reachable_destination(const Worker& worker, WayIn way,
                                                           int client_fd);

}  // namespace sluice::gateway
