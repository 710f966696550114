// sk_lookup in one network namespace: tables in two slots, sockets in the map, the link pinned and
// adopted. Keeper's thread only. Filling a slot waits for grace periods (about 10 ms each).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/pins.h"
#include "kernel/plan.h"
#include "kernel/sockets.h"

namespace sluice::kernel {

class Steering {
 public:
  // Loads the program with the maps that an earlier keeper left pinned, or with new ones. A link
  // that is still attached to this namespace gets the new program in place, without a gap. `pins`
  // outlives the object.
  // `tcx`: false as on a kernel before 6.6.
  static Result<std::unique_ptr<Steering>> open(const PinDirectory& pins, bool tcx = true);
  // For a kernel without sk_lookup: takes plans without entries of that steering.
  static std::unique_ptr<Steering> none();
  virtual ~Steering() = default;

  // Fills the inactive slot from the entries of steering sk_lookup. Nothing that runs changes.
  virtual Result<void> prepare(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                               const NodeView& node) = 0;
  // Sockets into the map, the link where it is needed, then one store switches the tables. On an
  // error the old plan is in force.
  virtual Result<void> commit() = 0;
  // After a commit, one of: the old plan again (its slot is still filled) …
  virtual void revert() = 0;
  // … or what only the old plan needed goes: sockets of groups that are gone, the link.
  virtual void settle() = 0;
  virtual void abandon() = 0;

  // Compiles the plan in force again when the node's addresses or interfaces differ from those it
  // was compiled with. Does nothing while another plan is prepared. True: changed.
  virtual Result<bool> follow(const NodeView& node) = 0;

  // About once a second, after follow(): renews the leases of steering tc while the gateway serves,
  // and hangs its program at interfaces that came. The error is what the kernel refused.
  virtual Result<void> tick(bool gateway_alive, const NodeView& node) = 0;
  virtual void keep_leases() = 0;  // as Interception has it
  // Steering tc takes no new connection any more; those proxied go on.
  virtual void stop_intercepting() = 0;
  // Of forwarded connections, by listener, since the maps were made: those that an entry claims
  // where they come in, and lookups that found the entry.
  struct Arrivals {
    std::string listener;
    std::uint64_t arrived = 0;
    std::uint64_t looked_up = 0;
  };
  virtual std::vector<Arrivals> arrivals() const = 0;

  virtual std::uint64_t generation() const = 0;  // in force, also a predecessor's; 0: none
  virtual std::vector<Sample> samples() const = 0;

  // Detaches and removes the pins.
  virtual void remove() = 0;
};

}  // namespace sluice::kernel
