// Whose connections may go by the express lane: what `express` of listeners and upstreams means
// together. Whether one does is the kernel's to say: both its ends have to be sockets of this node.
#pragma once

#include "policy/config.h"

namespace sluice::policy {

// The connections that the gateway opens to `upstream` for what came by `listener`.
bool upstream_in_lane(const Listener& listener, const Upstream& upstream);

// Those of some upstream.
bool upstreams_in_lane(const Config& config);

// The connections of the clients of `listener`: it says so itself, or an upstream that its routes,
// or `default_route`, lead to.
bool clients_in_lane(const Config& config, const Listener& listener);

}  // namespace sluice::policy
