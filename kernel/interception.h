// Brings connections to this node that would pass it by: nftables marks SYNs, policy routing turns
// them local. Keeper's thread only. One transaction replaces the whole table; what was left by a
// crash is replaced too.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/plan.h"
#include "kernel/sockets.h"

namespace sluice::kernel {

class Interception {
 public:
  static std::unique_ptr<Interception> create();
  virtual ~Interception() = default;

  // Checks that marks, table and priorities are free, and local destinations sane. Changes nothing.
  // Every entry's steering is chosen; of those of steering tc only the routing is done here.
  // `sockets` are the plan's.
  virtual Result<void> prepare(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                               const NodeView& node) = 0;
  // Routes and rules, then the table; leases begin held. On an error the old plan is in force.
  virtual Result<void> commit() = 0;
  // After a commit, one of: the old plan again …
  virtual void revert() = 0;
  // … or what only the old plan needed goes.
  virtual void settle() = 0;
  virtual void abandon() = 0;

  // About once a second, and when ChangeMonitor says so. Renews the leases while the gateway
  // serves; follows addresses, interfaces and cgroups; repairs what others changed.
  // `table_touched`: look at the table closely. Errors are for the log; the next tick tries again.
  virtual Result<void> tick(bool gateway_alive, const NodeView& node, bool table_touched) = 0;
  // Renews the leases of what serves and changes nothing else; that it could not is passed over.
  virtual void keep_leases() = 0;
  // New connections flow straight; those proxied go on, since their rules and routes stay.
  virtual void stop_intercepting() = 0;
  // Takes the rest away; connections that are still proxied end.
  virtual void remove() = 0;

  virtual std::vector<Sample> samples() const = 0;
  // Control groups that the plan in force names and that were not there at the last tick.
  virtual std::vector<std::string> missing_cgroups() const = 0;
  // What was put back since the last call, a sentence each.
  virtual std::vector<std::string> take_notices() = 0;
};

// Removes table, rules and routes, whoever made them; each line says what was removed.
std::vector<std::string> remove_interception();

}  // namespace sluice::kernel
