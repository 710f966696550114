// Packets to vendors' addresses that go around the gateway: counted, and where the plan says so new
// connections refused. A table of its own, `inet sluice_vendors`: addresses follow DNS, and writing
// them must not touch what the leases of `inet sluice` hold. Keeper's thread only.
#pragma once

#include <memory>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

class VendorTraffic {
 public:
  // An address counts for ten minutes after it was last said to be a vendor's: who asked DNS a
  // little earlier still goes there. More than so many are left out.
  static constexpr std::size_t kMaxHosts = 1024;

  static std::unique_ptr<VendorTraffic> create();
  virtual ~VendorTraffic() = default;

  // What the plan says from now on, with `plan.protect` complete. On an error the old one is in
  // force.
  virtual Result<void> commit(const Plan& plan) = 0;
  virtual void revert() = 0;  // after a commit: the old plan again

  // As the gateway resolved the vendors' names; in force with the next tick.
  virtual void follow(std::vector<Prefix> hosts) = 0;
  // About once a second: new addresses, and what others removed.
  virtual Result<void> tick() = 0;
  // Nothing is counted or refused any more; what was counted stays known.
  virtual void remove() = 0;

  virtual std::vector<Prefix> hosts() const = 0;  // in force
  virtual std::vector<Sample> samples() const = 0;
};

// Removes the table, whoever made it; whether there was one.
bool remove_vendor_traffic();

}  // namespace sluice::kernel
