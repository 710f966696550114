#include "kernel/interfaces.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fnmatch.h>
#include <fstream>
#include <iterator>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <memory>
#include <set>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/message.h"
#include "kernel/netlink_attributes.h"

namespace sluice::kernel {
namespace {

constexpr std::size_t kReceiveBuffer = 64 * 1024;

Error failed(const char* what) {
  return Error{message("rtnetlink: {}: {}", what, std::strerror(errno))};
}

Prefix host(int family, const void* bytes) {
  Prefix prefix{{}, 128, family == AF_INET};
  if (family == AF_INET) {
    prefix.address[10] = prefix.address[11] = 0xff;
    std::memcpy(prefix.address.data() + 12, bytes, 4);
  } else {
    std::memcpy(prefix.address.data(), bytes, 16);
  }
  return prefix;
}

struct CloseMnl {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using MnlSocket = std::unique_ptr<mnl_socket, CloseMnl>;

// One dump request; `on_message` for each answer.
template <typename Body>
Result<void> dump(std::uint16_t type, mnl_cb_t on_message, NodeNetwork& out) {
  const MnlSocket socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return std::unexpected(failed("socket"));
  alignas(nlmsghdr) std::array<char, kReceiveBuffer> buffer{};
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = 1;
  mnl_nlmsg_put_extra_header(request, sizeof(Body));
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0)
    return std::unexpected(failed("send"));
  for (;;) {
    const ssize_t size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (size < 0) return std::unexpected(failed("receive"));
    const int more =
        mnl_cb_run(buffer.data(), size, 1, mnl_socket_get_portid(socket.get()), on_message, &out);
    if (more == MNL_CB_STOP) return {};
    if (more < 0) {
      // A dump that changed under the reader is complete enough: the change comes with a message of
      // its own.
      if (errno == EINTR) continue;
      return std::unexpected(failed("dump"));
    }
  }
}

int on_link(const nlmsghdr* message, void* data) {
  auto& out = *static_cast<NodeNetwork*>(data);
  const auto* link = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  Interface found;
  found.index = static_cast<unsigned>(link->ifi_index);
  found.up = (link->ifi_flags & IFF_UP) != 0;
  found.loopback = (link->ifi_flags & IFF_LOOPBACK) != 0;
  found.ethernet = link->ifi_type == ARPHRD_ETHER;
  bool elsewhere = false;
  for (const nlattr* attribute : NetlinkAttributes(*message, sizeof(*link))) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME:
        found.name = mnl_attr_get_str(attribute);
        break;
      case IFLA_MASTER:
        found.master = mnl_attr_get_u32(attribute);
        break;
      case IFLA_LINK:
        found.beneath = mnl_attr_get_u32(attribute);
        break;
      case IFLA_LINK_NETNSID:
        elsewhere = true;
        break;
      default:
        break;
    }
  }
  if (elsewhere) found.beneath = 0;
  out.interfaces.push_back(std::move(found));
  return MNL_CB_OK;
}

int on_address(const nlmsghdr* message, void* data) {
  auto& out = *static_cast<NodeNetwork*>(data);
  const auto* address = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
  const void* local = nullptr;
  // IFA_LOCAL where there is one: on a point-to-point link IFA_ADDRESS is the peer.
  for (const nlattr* attribute : NetlinkAttributes(*message, sizeof(*address))) {
    const int type = mnl_attr_get_type(attribute);
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && local == nullptr))
      local = mnl_attr_get_payload(attribute);
  }
  if (local != nullptr && (address->ifa_family == AF_INET || address->ifa_family == AF_INET6)) {
    out.addresses.push_back(host(address->ifa_family, local));
  }
  return MNL_CB_OK;
}

void next_hops(const nlattr* list, int family, NodeNetwork& out) {
  const auto* hop = static_cast<const rtnexthop*>(mnl_attr_get_payload(list));
  int left = mnl_attr_get_payload_len(list);
  while (left >= static_cast<int>(sizeof(*hop)) && hop->rtnh_len >= sizeof(*hop) &&
         hop->rtnh_len <= left) {
    DefaultRoute route;
    route.interface_index = static_cast<unsigned>(hop->rtnh_ifindex);
    const char* of_hop = reinterpret_cast<const char*>(hop);
    const NetlinkAttributes attributes(of_hop + sizeof(*hop), of_hop + hop->rtnh_len);
    if (const nlattr* gateway = attributes.find(RTA_GATEWAY)) {
      route.has_gateway = true;
      route.gateway = host(family, mnl_attr_get_payload(gateway));
    }
    out.default_routes.push_back(route);
    const int step = static_cast<int>(RTNH_ALIGN(hop->rtnh_len));
    left -= step;
    hop = reinterpret_cast<const rtnexthop*>(reinterpret_cast<const char*>(hop) + step);
  }
}

int on_route(const nlmsghdr* message, void* data) {
  auto& out = *static_cast<NodeNetwork*>(data);
  const auto* body = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  const bool ip = body->rtm_family == AF_INET || body->rtm_family == AF_INET6;
  if (!ip || body->rtm_dst_len != 0 || body->rtm_type != RTN_UNICAST) return MNL_CB_OK;
  DefaultRoute route;
  std::uint32_t table = body->rtm_table;
  const nlattr* hops = nullptr;
  for (const nlattr* attribute : NetlinkAttributes(*message, sizeof(*body))) {
    switch (mnl_attr_get_type(attribute)) {
      case RTA_OIF:
        route.interface_index = mnl_attr_get_u32(attribute);
        break;
      case RTA_TABLE:
        table = mnl_attr_get_u32(attribute);
        break;
      case RTA_GATEWAY:
        route.has_gateway = true;
        route.gateway = host(body->rtm_family, mnl_attr_get_payload(attribute));
        break;
      case RTA_VIA: {
        // RFC 5549: an IPv4 route by an IPv6 next hop.
        const auto* via = static_cast<const rtvia*>(mnl_attr_get_payload(attribute));
        route.has_gateway = true;
        route.gateway = host(via->rtvia_family, via->rtvia_addr);
        break;
      }
      case RTA_MULTIPATH:
        hops = attribute;
        break;
      default:
        break;
    }
  }
  if (table != RT_TABLE_MAIN) return MNL_CB_OK;
  if (hops != nullptr) {
    next_hops(hops, body->rtm_family, out);
  } else if (route.interface_index != 0) {
    out.default_routes.push_back(route);
  }
  return MNL_CB_OK;
}

}  // namespace

Result<NodeNetwork> read_node_network() {
  NodeNetwork out;
  if (auto ok = dump<ifinfomsg>(RTM_GETLINK, on_link, out); !ok) return std::unexpected(ok.error());
  if (auto ok = dump<ifaddrmsg>(RTM_GETADDR, on_address, out); !ok)
    return std::unexpected(ok.error());
  if (auto ok = dump<rtmsg>(RTM_GETROUTE, on_route, out); !ok) return std::unexpected(ok.error());
  return out;
}

std::vector<Prefix> read_resolvers(const std::string& path) {
  std::vector<Prefix> out;
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    if (word == "nameserver" && file >> word) {
      const std::string address = word.substr(0, word.find('%'));  // fe80::1%eth0
      std::array<std::uint8_t, 16> bytes{};
      if (inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) {
        out.push_back(host(AF_INET, bytes.data()));
      } else if (inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) {
        out.push_back(host(AF_INET6, bytes.data()));
      }
    }
    file.ignore(4096, '\n');
  }
  return out;
}

std::vector<Prefix> network_peers(const NodeNetwork& network) {
  std::vector<Prefix> out = read_resolvers();
  for (const DefaultRoute& route : network.default_routes) {
    if (route.has_gateway) out.push_back(route.gateway);
  }
  return out;
}

std::vector<Interface> select_interfaces(const NodeNetwork& network,
                                         const std::vector<std::string>& patterns) {
  const auto wanted = [&](const Interface& candidate) {
    if (!patterns.empty()) {
      return std::ranges::any_of(patterns, [&](const std::string& pattern) {
        return fnmatch(pattern.c_str(), candidate.name.c_str(), 0) == 0;
      });
    }
    if (network.default_routes.empty()) return candidate.up;
    return std::ranges::any_of(network.default_routes, [&](const DefaultRoute& route) {
      return route.interface_index == candidate.index;
    });
  };
  std::vector<Interface> out;
  for (const Interface& candidate : network.interfaces) {
    // A glob or `auto` that took the loopback with it would cut the node off from itself.
    const bool named = std::ranges::find(patterns, candidate.name) != patterns.end();
    if ((!candidate.loopback || named) && wanted(candidate)) out.push_back(candidate);
  }
  return out;
}

std::vector<std::string> named_interfaces(const GuardPlan& guard) {
  std::vector<std::string> out = guard.interfaces;
  std::set<std::string> seen(out.begin(), out.end());
  for (const GuardRule& rule : guard.rules) {
    if (!rule.interfaces) continue;
    std::ranges::copy_if(*rule.interfaces, std::back_inserter(out),
                         [&](const std::string& name) { return seen.insert(name).second; });
  }
  return out;
}

std::vector<std::string> missing_interfaces(const NodeNetwork& network,
                                            const std::vector<std::string>& patterns) {
  std::vector<std::string> out;
  std::ranges::copy_if(patterns, std::back_inserter(out), [&](const std::string& name) {
    return name.find_first_of("*?[\\") == std::string::npos &&
           std::ranges::find(network.interfaces, name, &Interface::name) ==
               network.interfaces.end();
  });
  return out;
}

Result<NetworkChanges> NetworkChanges::subscribe() {
  NetworkChanges changes;
  changes.socket_ = protocol::OwnedFd(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!changes.socket_) return std::unexpected(failed("socket"));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups =
      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
  if (::bind(changes.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
      0) {
    return std::unexpected(failed("subscribe"));
  }
  return changes;
}

bool NetworkChanges::changed() {
  bool any = false;
  char byte = 0;
  for (;;) {
    const ssize_t size = ::recv(socket_.get(), &byte, sizeof(byte), MSG_TRUNC);
    if (size > 0 || (size < 0 && errno == ENOBUFS)) {
      any = true;
    } else if (size == 0 || errno != EINTR) {
      return any;
    }
  }
}

}  // namespace sluice::kernel
