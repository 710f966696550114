#include "kernel/closed_connections.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include "kernel/message.h"
#include "kernel/netlink.h"
#include "kernel/netlink_attributes.h"
#include "kernel/node_view.h"
#include "kernel/open_connections.h"
#include "kernel/policy_routing.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

Prefix destination_of(const nlmsghdr& header) {
  const auto* fixed = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&header));
  const bool v4 = fixed->rtm_family == AF_INET;
  Prefix prefix = v4 ? all_of_v4() : Prefix{.address = {}, .length = 0, .v4 = false};
  prefix.length = static_cast<std::uint8_t>(fixed->rtm_dst_len + (v4 ? 96 : 0));
  if (const nlattr* to = NetlinkAttributes(header, sizeof(*fixed)).find(RTA_DST))
    std::memcpy(prefix.address.data() + (v4 ? 12 : 0), mnl_attr_get_payload(to), v4 ? 4 : 16);
  return prefix;
}

// What routes call local, but for our own: more than the addresses (127.0.0.0/8, others' prefixes).
Result<std::vector<Prefix>> read_local_prefixes() {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid())
    return std::unexpected(Error{message("cannot open rtnetlink: {}", std::strerror(errno))});
  std::vector<Prefix> found;
  for (const auto family : {AF_INET, AF_INET6}) {
    NetlinkMessage request(RTM_GETROUTE, 0);
    auto& wanted = request.extra<rtmsg>();
    wanted.rtm_family = static_cast<unsigned char>(family);
    wanted.rtm_type = RTN_LOCAL;  // the kernel filters
    const int error = socket.dump(request, [&](const nlmsghdr& header) {
      const auto* fixed = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&header));
      if (header.nlmsg_type == RTM_NEWROUTE && fixed->rtm_type == RTN_LOCAL &&
          fixed->rtm_protocol != kRouteProtocol)
        found.push_back(destination_of(header));
    });
    if (error != 0 && error != ENOENT && error != EAFNOSUPPORT && error != EOPNOTSUPP)
      return std::unexpected(
          Error{message("cannot list this node's local routes: {}", std::strerror(error))});
  }
  return found;
}

// To the client; or to the upstream, with the client's address.
bool has_entry(const Plan& plan, const NodeView& node, const TcpSocket& socket) {
  return entry_of(plan, node, socket) != nullptr ||
         (plan.client_source && entry_of(plan, node, other_end(socket)) != nullptr);
}

bool caught_by(const Plan& plan, const NodeView& node, const TcpSocket& socket) {
  return (socket.mark & plan.marks.mask) == plan.marks.gateway() || has_entry(plan, node, socket);
}

bool catches_the_same(const Intercept& a, const Intercept& b) {
  return a.way == b.way && a.from == b.from && a.to == b.to && a.except_from == b.except_from &&
         a.except_to == b.except_to && a.ports == b.ports;
}

bool left_over(const TcpSocket& socket, const std::vector<Prefix>& of_node) {
  return socket.inode == 0 && !covered(of_node, socket.local);
}

}  // namespace

bool bypasses_forward(const Plan& plan) {
  return std::ranges::any_of(plan.intercepts, [](const Intercept& entry) {
    return entry.way == WayIn::forward && entry.on_exit == OnExit::bypass;
  });
}

Result<std::size_t> end_closed_connections(const Plan& plan, TcpSockets which) {
  if (!uses_marks(plan)) return 0;
  const auto node = read_node_view();
  if (!node) return std::unexpected(node.error());
  const auto of_node = read_local_prefixes();
  if (!of_node) return std::unexpected(of_node.error());
  return destroy_tcp_sockets(which, [&](const TcpSocket& socket) {
    return caught_by(plan, *node, socket) && left_over(socket, *of_node);
  });
}

bool catches_less(const Plan& before, const Plan& next) {
  return std::ranges::any_of(before.intercepts, [&](const Intercept& entry) {
    return std::ranges::none_of(
        next.intercepts, [&](const Intercept& other) { return catches_the_same(entry, other); });
  });
}

Result<std::size_t> end_closed_connections(const Plan& before, const Plan& next) {
  const auto node = read_node_view();
  if (!node) return std::unexpected(node.error());
  const auto of_node = read_local_prefixes();
  if (!of_node) return std::unexpected(of_node.error());
  return destroy_tcp_sockets(TcpSockets::time_wait, [&](const TcpSocket& socket) {
    const bool upstream = !entry_of(before, *node, socket);
    const TcpSocket judged = upstream ? other_end(socket) : socket;
    return has_entry(before, *node, socket) && !entry_of(next, *node, judged) &&
           left_over(socket, *of_node);
  });
}

Result<std::size_t> end_closed_connections() {
  const auto of_node = read_local_prefixes();
  if (!of_node) return std::unexpected(of_node.error());
  return destroy_tcp_sockets(TcpSockets::closed,
                             [&](const TcpSocket& socket) { return left_over(socket, *of_node); });
}

void wait_for_last_answers(const Plan& plan, std::chrono::milliseconds at_most) {
  const auto node = read_node_view();
  if (!node || !uses_marks(plan)) return;
  const auto until = std::chrono::steady_clock::now() + at_most;
  for (bool some = true; some && std::chrono::steady_clock::now() < until;) {
    some = false;
    const auto seen = each_tcp_socket(TcpSockets::unacknowledged, [&](const TcpSocket& socket) {
      some = some || (socket.inode == 0 && entry_of(plan, *node, socket) != nullptr);
    });
    if (!seen) return;
    if (some) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace sluice::kernel
