#include "kernel/node_view.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fnmatch.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <optional>
#include <sys/socket.h>

#include "kernel/message.h"
#include "kernel/netlink.h"
#include "kernel/netlink_attributes.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

// IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link, and the only one for IPv6.
std::optional<Prefix> parse_address(const nlmsghdr& header) {
  const auto* fixed = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(&header));
  const NetlinkAttributes attributes(header, sizeof(*fixed));
  const nlattr* best = attributes.find(IFA_LOCAL);
  if (best == nullptr) best = attributes.find(IFA_ADDRESS);
  if (!best) return std::nullopt;
  const bool v4 = fixed->ifa_family == AF_INET;
  auto bytes = v4 ? all_of_v4().address : Prefix{}.address;
  std::memcpy(bytes.data() + (v4 ? 12 : 0), mnl_attr_get_payload(best), v4 ? 4 : 16);
  return host_prefix(bytes);
}

Result<std::vector<Prefix>> read_addresses() {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid())
    return std::unexpected(Error{message("cannot open rtnetlink: {}", std::strerror(errno))});
  std::vector<Prefix> addresses;
  for (const auto family : {AF_INET, AF_INET6}) {
    NetlinkMessage request(RTM_GETADDR, 0);
    request.extra<ifaddrmsg>().ifa_family = static_cast<unsigned char>(family);
    const int error = socket.dump(request, [&](const nlmsghdr& header) {
      if (header.nlmsg_type != RTM_NEWADDR) return;
      if (const auto address = parse_address(header)) addresses.push_back(*address);
    });
    if (error != 0 && error != EAFNOSUPPORT && error != EOPNOTSUPP) {
      return std::unexpected(
          Error{message("cannot list this node's addresses: {}", std::strerror(error))});
    }
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

}  // namespace

Result<NodeView> read_node_view() {
  auto addresses = read_addresses();
  if (!addresses) return std::unexpected(addresses.error());
  NodeView view{.addresses = std::move(*addresses), .interfaces = {}};
  struct if_nameindex* names = ::if_nameindex();
  if (names == nullptr)
    return std::unexpected(
        Error{message("cannot list this node's interfaces: {}", std::strerror(errno))});
  for (const auto* at = names; at->if_index != 0; at++)
    view.interfaces.emplace(at->if_name, at->if_index);
  ::if_freenameindex(names);
  return view;
}

std::vector<std::string> matching_interfaces(const NodeView& node,
                                             const std::vector<std::string>& patterns) {
  std::vector<std::string> found;
  for (const auto& [name, index] : node.interfaces) {
    const bool named = std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) {
      return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
    });
    if (named) found.push_back(name);
  }
  return found;
}

}  // namespace sluice::kernel
