#include "kernel/node_addresses.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <optional>
#include <sys/socket.h>

#include "kernel/message.h"
#include "kernel/netlink.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

// IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link, and the only one for IPv6.
std::optional<Prefix> parse_address(const nlmsghdr& header) {
  const auto* fixed = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(&header));
  const nlattr* best = nullptr;
  const auto* at =
      static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(&header, sizeof(*fixed)));
  const auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(&header));
  for (; mnl_attr_ok(at, static_cast<int>(end - reinterpret_cast<const char*>(at)));
       at = mnl_attr_next(at)) {
    if (mnl_attr_get_type(at) == IFA_LOCAL || (mnl_attr_get_type(at) == IFA_ADDRESS && !best))
      best = at;
  }
  if (!best) return std::nullopt;
  const bool v4 = fixed->ifa_family == AF_INET;
  auto bytes = v4 ? all_of_v4().address : Prefix{}.address;
  std::memcpy(bytes.data() + (v4 ? 12 : 0), mnl_attr_get_payload(best), v4 ? 4 : 16);
  return host_prefix(bytes);
}

}  // namespace

Result<std::vector<Prefix>> read_own_addresses() {
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

}  // namespace sluice::kernel
