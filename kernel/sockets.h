// Listening sockets: one per listener, way in and worker. No BPF here: way `bind` needs no
// capability.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"
#include "kernel/plan.h"

namespace sluice::kernel {

inline constexpr int kListenBacklog = 4096;  // the kernel cuts it to net.core.somaxconn

// An open listening socket. Shared by the plan in force and the prepared one while both use it.
struct OwnedSocket {
  std::uint32_t listener = 0;  // index in the plan's listeners
  WayIn way = WayIn::bind;
  std::uint32_t worker = 0;
  bool by_tproxy = false;  // nftables finds it by its port, not sk_lookup
  std::string identity;    // what makes it the same socket in another plan
  std::shared_ptr<const protocol::OwnedFd> fd;
};

// The sockets of way `bind` of a plan (listeners with a bind_address), non-blocking and
// close-on-exec. Sockets of `kept` that serve the same address and worker are used again. Needs no
// privilege (ports below 1024 aside), no keeper and no BPF.
Result<std::vector<OwnedSocket>> open_bind_sockets(const std::vector<Listener>& listeners,
                                                   std::uint32_t workers,
                                                   const std::vector<OwnedSocket>& kept = {});

// The sockets of the steered ways that the plan's intercepts name: IP_TRANSPARENT, both IP
// versions. They listen on the wildcard address and a port of the kernel's choice, by which
// nftables tells them (`socket wildcard`) from the connections that they accepted; steer.bpf.c
// refuses who comes to that port directly. Needs CAP_NET_ADMIN.
Result<std::vector<OwnedSocket>> open_steered_sockets(const Plan& plan,
                                                      const std::vector<OwnedSocket>& kept = {});

// The local port of a socket; 0 when it has none.
std::uint16_t port_of(int fd);

}  // namespace sluice::kernel
