#include "kernel/spared_sockets.h"

#include <algorithm>

#include "kernel/prefix_text.h"

namespace sluice::kernel {

bool spared(const TcpSocket& socket, const Plan& plan, std::span<const Prefix> node_addresses) {
  if (std::ranges::find(plan.host_ports, socket.local_port) != plan.host_ports.end() &&
      std::ranges::find(node_addresses, socket.local) != node_addresses.end())
    return true;
  return std::ranges::any_of(plan.protect, [&](const Protect& entry) {
    return !entry.server_only && covers(entry.peer, socket.peer) &&
           covered(entry.to_ports, socket.local_port);
  });
}

}  // namespace sluice::kernel
