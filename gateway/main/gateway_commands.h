// Admin commands that only the process with the workers can answer: directly in one process, over
// the keeper's channel in two.
#pragma once

#include <boost/json.hpp>

#include "gateway/gateway.h"

namespace sluice::control {

// "explain", "upstream", "routes", "bans" and "unban"; anything else is an error.
boost::json::object gateway_command(gateway::Gateway& gateway, const boost::json::object& request);

// A question about the gateway's part of the way alone; the answer as `sluice explain` prints it.
boost::json::object handle_explain(gateway::Gateway& gateway, const boost::json::object& question);

// Bans that the gateway enforces: {"bans": [{"address", "seconds_left", "action": "route" | "refuse",
// "upstream"?, "reason"}]}; and the end of one, {"address"}: {"was_banned"}.
boost::json::object handle_own_bans(gateway::Gateway& gateway);
boost::json::object handle_own_unban(gateway::Gateway& gateway, const boost::json::object& request);

// {"routes": [{"listener", "name", "upstreams", "requests", "errors", "seconds"}]}, the busiest first.
boost::json::object handle_routes(gateway::Gateway& gateway);

// {"upstream", "action": "drain" | "ready" | "weight", "endpoint"?, "weight"?}
boost::json::object handle_upstream(gateway::Gateway& gateway, const boost::json::object& request);

}  // namespace sluice::control
