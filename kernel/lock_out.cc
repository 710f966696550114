#include "kernel/lock_out.h"

#include <algorithm>
#include <vector>

#include "kernel/message.h"
#include "kernel/prefix_text.h"
#include "kernel/sock_diag.h"

namespace sluice::kernel {
namespace {

bool takes(const Intercept& entry, const Prefix& address, std::uint16_t port) {
  return entry.way == WayIn::local && !entry.take_over && covered(entry.ports, port) &&
         covered(entry.to, address) && !covered(entry.except_to, address);
}

// A socket on all addresses of IPv6 serves IPv4 too, as a rule: taken to.
std::vector<Prefix> addresses_of(const TcpSocket& socket, const NodeView& node) {
  if (!socket.any_address) return {socket.local};
  std::vector<Prefix> addresses;
  for (const auto& address : node.addresses) {
    if (!socket.local.v4 || address.v4) addresses.push_back(address);
  }
  return addresses;
}

}  // namespace

Result<void> check_lock_out(const Plan& plan, const NodeView& node,
                            const std::set<std::uint16_t>& ours) {
  const bool any = std::any_of(plan.intercepts.begin(), plan.intercepts.end(),
                               [](const auto& e) { return e.way == WayIn::local && !e.take_over; });
  if (!any) return {};
  std::string problem;
  const auto look = [&](const TcpSocket& socket) {
    const std::uint16_t port = socket.local_port;
    const auto& kept = plan.host_ports;
    if (!problem.empty() || ours.contains(port) ||
        std::find(kept.begin(), kept.end(), port) != kept.end())
      return;
    for (const auto& address : addresses_of(socket, node)) {
      for (const auto& entry : plan.intercepts) {
        if (!problem.empty() || !takes(entry, address, port)) continue;
        problem = message(
            "{}: intercept.local would take port {} of {}, on which this host listens; say "
            "`take_over: true` if that is meant, leave the address out by `except`, or keep the "
            "port for the host by protect.host_ports",
            entry.where, port, to_text(address));
      }
    }
  };
  if (auto ok = each_tcp_socket(TcpSockets::listening, look); !ok) return ok;
  if (!problem.empty()) return std::unexpected(Error{problem});
  return {};
}

}  // namespace sluice::kernel
