// What the express lane carries, for `sluice status` and `sluice explain`.
#pragma once

#include <optional>

#include <boost/json.hpp>

#include "kernel/keeper.h"
#include "policy/explain.h"

namespace sluice::control {

// `express`: a row for the connections to upstreams and one for those of clients, those that
// entered the lane and are open. `express_connections`: each of them with its bytes by way, 100 at
// most.
void add_express_status(const kernel::Keeper& keeper, boost::json::object& status);

// For `sluice top`, which sees no packet of the lane.
struct ExpressTotals {
  double connections = 0;  // open, that entered
  double bytes = 0;        // by the lane, since the programs were loaded
};
ExpressTotals express_totals(const kernel::Keeper& keeper);

// Of the connection that `packet` belongs to, whichever end has sent it; nullopt: it never entered
// the lane, or its ports are not known.
std::optional<policy::Step> express_step(const kernel::Keeper& keeper,
                                         const policy::PacketDescription& packet);

}  // namespace sluice::control
