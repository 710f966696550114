// Says when somebody changed what interception stands on: addresses, links, policy routing rules,
// or the table `inet sluice` itself. Messages only hint: what is there is read afterwards.
#pragma once

#include <vector>

#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"

namespace sluice::kernel {

class ChangeMonitor {
 public:
  // In the calling thread's network namespace. Needs CAP_NET_ADMIN for nftables' messages.
  static Result<ChangeMonitor> open();

  // Readable when there is something to take().
  std::vector<int> fds() const { return {routing_.get(), nftables_.get()}; }

  struct Changes {
    bool routing = false;
    bool nftables = false;  // of our table, its leases aside
  };
  // Since the last call. Lost messages count as changes.
  Changes take();

 private:
  protocol::OwnedFd routing_, nftables_;
};

}  // namespace sluice::kernel
