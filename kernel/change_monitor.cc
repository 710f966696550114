#include "kernel/change_monitor.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <string_view>
#include <sys/socket.h>

#include "kernel/message.h"
#include "kernel/netlink_attributes.h"
#include "kernel/nft_batch.h"

namespace sluice::kernel {
namespace {

constexpr std::size_t kReceiveSpace = 64 * 1024;
constexpr int kQueueBytes = 1 << 20;

Result<protocol::OwnedFd> subscribe(int bus, const std::vector<int>& groups) {
  protocol::OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, bus));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  bool good =
      fd && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  for (const int group : groups)
    good = good &&
           ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0;
  if (!good)
    return std::unexpected(
        Error{message("cannot subscribe to netlink changes: {}", std::strerror(errno))});
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kQueueBytes, sizeof(kQueueBytes));
  return fd;
}

std::string_view text_attribute(const nlmsghdr& header, std::uint16_t type) {
  const nlattr* found = NetlinkAttributes(header, sizeof(nfgenmsg)).find(type);
  if (found == nullptr || mnl_attr_validate(found, MNL_TYPE_NUL_STRING) < 0) return {};
  return mnl_attr_get_str(found);
}

bool of_our_table(const nlmsghdr& header) {
  if (header.nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES) return false;
  const int type = header.nlmsg_type & 0xff;
  if (type == NFT_MSG_NEWGEN) return false;
  // The table's name is attribute 1 of every kind of object.
  if (text_attribute(header, NFTA_TABLE_NAME) != kNftTable) return false;
  const bool element = type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM;
  return !element || !text_attribute(header, NFTA_SET_ELEM_LIST_SET).starts_with("lease_");
}

// True when a message says `relevant`, or some were lost.
template <typename Relevant>
bool drain(int fd, Relevant relevant) {
  alignas(nlmsghdr) std::array<char, kReceiveSpace> buffer;
  bool any = false;
  for (;;) {
    const auto got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {
      any = true;
      continue;
    }
    if (got <= 0) return any;
    int left = static_cast<int>(got);
    for (auto* at = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(at, left);
         at = mnl_nlmsg_next(at, &left)) {
      any = any || relevant(*at);
    }
  }
}

}  // namespace

Result<ChangeMonitor> ChangeMonitor::open() {
  auto routing = subscribe(NETLINK_ROUTE, {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
                                           RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE});
  if (!routing) return std::unexpected(routing.error());
  auto nftables = subscribe(NETLINK_NETFILTER, {NFNLGRP_NFTABLES});
  if (!nftables) return std::unexpected(nftables.error());
  ChangeMonitor monitor;
  monitor.routing_ = std::move(*routing);
  monitor.nftables_ = std::move(*nftables);
  return monitor;
}

ChangeMonitor::Changes ChangeMonitor::take() {
  return {.routing = drain(routing_.get(), [](const nlmsghdr&) { return true; }),
          .nftables = drain(nftables_.get(), of_our_table)};
}

}  // namespace sluice::kernel
