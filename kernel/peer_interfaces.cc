#include "kernel/peer_interfaces.h"

#include <algorithm>
#include <array>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

#include "kernel/netlink_attributes.h"

namespace sluice::kernel {
namespace {

// The same on every link: a route says nothing of it.
bool is_link_local(const Prefix& host) {
  return !host.v4 && host.address[0] == 0xfe && (host.address[1] & 0xc0) == 0x80;
}

unsigned outgoing_of(const nlmsghdr& header) {
  if (header.nlmsg_type != RTM_NEWROUTE) return 0;
  const nlattr* out = NetlinkAttributes(header, sizeof(rtmsg)).find(RTA_OIF);
  return out == nullptr ? 0 : mnl_attr_get_u32(out);
}

}  // namespace

PeerInterfaces::PeerInterfaces(NodeNetwork network)
    : network_(std::move(network)),
      socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {
  if (!socket_) return;
  const timeval limit{1, 0};  // the kernel answers at once
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

const std::vector<std::string>& PeerInterfaces::of(const Prefix& peer) {
  const auto [found, added] = known_.try_emplace(peer);
  if (added && !is_link_local(peer)) {
    if (const unsigned index = route_to(peer)) add_with_those_below(index, found->second);
  }
  return found->second;
}

unsigned PeerInterfaces::route_to(const Prefix& peer) const {
  if (!socket_) return 0;
  alignas(nlmsghdr) std::array<char, 8192> buffer{};
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = RTM_GETROUTE;
  request->nlmsg_flags = NLM_F_REQUEST;
  auto* wanted = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(rtmsg)));
  wanted->rtm_family = peer.v4 ? AF_INET : AF_INET6;
  wanted->rtm_dst_len = peer.v4 ? 32 : 128;
  const std::size_t skipped = peer.v4 ? 12 : 0;
  mnl_attr_put(request, RTA_DST, peer.address.size() - skipped, peer.address.data() + skipped);
  if (::send(socket_.get(), request, request->nlmsg_len, 0) < 0) return 0;
  const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer.data());
  return size > 0 && mnl_nlmsg_ok(answer, static_cast<int>(size)) ? outgoing_of(*answer) : 0;
}

void PeerInterfaces::add_with_those_below(unsigned index, std::vector<std::string>& names) const {
  const auto at = std::ranges::find(network_.interfaces, index, &Interface::index);
  if (at == network_.interfaces.end() || std::ranges::find(names, at->name) != names.end()) return;
  names.push_back(at->name);
  if (at->beneath != 0) add_with_those_below(at->beneath, names);
  for (const Interface& port : network_.interfaces) {
    if (port.master == index) add_with_those_below(port.index, names);
  }
}

}  // namespace sluice::kernel
