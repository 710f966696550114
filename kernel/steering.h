// sk_lookup in one network namespace: tables in two slots, sockets in the map, the link pinned and
// adopted. Keeper's thread only. Filling a slot waits for grace periods (about 10 ms each).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/pins.h"
#include "kernel/plan.h"
#include "kernel/sockets.h"

namespace sluice::kernel {

class Steering {
 public:
  // Loads the program with the maps that an earlier keeper left pinned, or with new ones. A link
  // that is still attached to this namespace gets the new program in place, without a gap. `pins`
  // outlives the object.
  static Result<std::unique_ptr<Steering>> open(const PinDirectory& pins);
  virtual ~Steering() = default;

  // Fills the inactive slot. `own_addresses`: host prefixes of this node. Nothing that runs
  // changes.
  virtual Result<void> prepare(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                               const std::vector<Prefix>& own_addresses) = 0;
  // Sockets into the map, then one store switches the tables. Sockets of groups that are gone leave
  // the map.
  virtual Result<void> commit() = 0;
  virtual void abandon() = 0;

  // Compiles the plan in force again when the node's addresses differ from those it was compiled
  // with. Does nothing while another plan is prepared. True: changed.
  virtual Result<bool> follow_addresses(const std::vector<Prefix>& own_addresses) = 0;

  virtual std::vector<Sample> samples() const = 0;

  // Detaches and removes the pins.
  virtual void remove() = 0;
};

}  // namespace sluice::kernel
