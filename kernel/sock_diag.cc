#include "kernel/sock_diag.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>
#include <vector>

#include "kernel/message.h"
#include "kernel/netlink.h"
#include "kernel/netlink_attributes.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr std::uint32_t kUnacknowledged =
    1U << TCP_FIN_WAIT1 | 1U << TCP_CLOSING | 1U << TCP_LAST_ACK;
constexpr std::uint32_t kClosed = kUnacknowledged | 1U << TCP_FIN_WAIT2 | 1U << TCP_TIME_WAIT;
constexpr std::uint32_t kConnected =
    1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_SYN_RECV | 1U << TCP_FIN_WAIT1 |
    1U << TCP_FIN_WAIT2 | 1U << TCP_CLOSE_WAIT | 1U << TCP_LAST_ACK | 1U << TCP_CLOSING;

constexpr std::uint32_t states_of(TcpSockets which) {
  switch (which) {
    case TcpSockets::listening:
      return 1U << TCP_LISTEN;
    case TcpSockets::time_wait:
      return 1U << TCP_TIME_WAIT;
    case TcpSockets::unacknowledged:
      return kUnacknowledged;
    case TcpSockets::closed:
      return kClosed;
    case TcpSockets::connected:
      break;
  }
  return kConnected;
}

Error diag_error(int error) {
  const char* hint = error == ENOENT ? " (is the kernel's inet_diag missing?)" : "";
  return {message("cannot list TCP sockets: {}{}", std::strerror(error), hint)};
}

Prefix host_of(std::uint8_t family, const __be32* words) {
  auto bytes = family == AF_INET ? all_of_v4().address : Prefix{}.address;
  std::memcpy(bytes.data() + (family == AF_INET ? 12 : 0), words, family == AF_INET ? 4 : 16);
  return host_prefix(bytes);
}

bool is_zero(std::uint8_t family, const __be32* words) {
  return words[0] == 0 && (family == AF_INET || (words[1] == 0 && words[2] == 0 && words[3] == 0));
}

std::uint32_t mark_of(const nlmsghdr& header) {
  const nlattr* mark = NetlinkAttributes(header, sizeof(inet_diag_msg)).find(INET_DIAG_MARK);
  return mark == nullptr ? 0 : mnl_attr_get_u32(mark);
}

const inet_diag_msg& message_of(const nlmsghdr& header) {
  return *static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(&header));
}

TcpSocket parse(const nlmsghdr& header) {
  const inet_diag_msg& found = message_of(header);
  return {.local = host_of(found.idiag_family, found.id.idiag_src),
          .peer = host_of(found.idiag_family, found.id.idiag_dst),
          .local_port = ntohs(found.id.idiag_sport),
          .peer_port = ntohs(found.id.idiag_dport),
          .any_address = is_zero(found.idiag_family, found.id.idiag_src),
          .inode = found.idiag_inode,
          .mark = mark_of(header),
          .cookie = std::uint64_t{found.id.idiag_cookie[1]} << 32 | found.id.idiag_cookie[0]};
}

// One test of a peer's address, as inet_diag(7)'s bytecode has it: an operation, the condition, the
// address; then a jump over the tests that follow. Whoever ends exactly at the program's end is
// wanted.
struct PeerTest {
  inet_diag_bc_op test;
  struct Condition {  // inet_diag_hostcond without its flexible end
    std::uint8_t family;
    std::uint8_t prefix_len;
    std::int32_t port;
  } condition;
  std::array<std::uint8_t, 16> address;
  inet_diag_bc_op found;
};
static_assert(sizeof(PeerTest) == 32 && sizeof(inet_diag_bc_op) == 4 &&
              sizeof(PeerTest::Condition) == sizeof(inet_diag_hostcond));

constexpr std::size_t kMostTests = 64;

// IPv4 peers are found on IPv6 sockets as well: the kernel knows mapped addresses.
std::vector<PeerTest> tests_of(std::span<const Prefix> peers) {
  std::vector<PeerTest> out;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const Prefix& peer = peers[i];
    PeerTest made{};
    const auto to_end = static_cast<std::uint16_t>((peers.size() - i) * sizeof(PeerTest));
    made.test.code = INET_DIAG_BC_D_COND;
    made.test.yes = sizeof(PeerTest) - sizeof(made.found);
    made.test.no =
        i + 1 < peers.size() ? sizeof(PeerTest) : to_end + 4;  // beyond the end: not wanted
    made.condition.family = peer.v4 ? AF_INET : AF_INET6;
    made.condition.prefix_len = own_length(peer);
    made.condition.port = -1;  // any
    std::memcpy(made.address.data(), peer.address.data() + (peer.v4 ? 12 : 0), peer.v4 ? 4 : 16);
    made.found.code = INET_DIAG_BC_JMP;
    made.found.yes = sizeof(made.found);
    made.found.no = static_cast<std::uint16_t>(to_end - (sizeof(PeerTest) - sizeof(made.found)));
    out.push_back(made);
  }
  return out;
}

// `peers`: at most kMostTests; none: all sockets.
int each(NetlinkSocket& socket, std::uint32_t states,
         const std::function<void(const nlmsghdr&)>& visit, std::span<const Prefix> peers = {}) {
  const auto tests = tests_of(peers);
  for (const auto family : {AF_INET, AF_INET6}) {
    NetlinkMessage request(SOCK_DIAG_BY_FAMILY, 0);
    auto& body = request.extra<inet_diag_req_v2>();
    body.sdiag_family = static_cast<std::uint8_t>(family);
    body.sdiag_protocol = IPPROTO_TCP;
    body.idiag_states = states;
    if (!tests.empty()) {
      request.put(INET_DIAG_REQ_BYTECODE,
                  {reinterpret_cast<const char*>(tests.data()), tests.size() * sizeof(PeerTest)});
    }
    const int error = socket.dump(request, visit);
    if (error != 0 && error != EAFNOSUPPORT) return error;
  }
  return 0;
}

struct DestroyRequest {
  nlmsghdr header{.nlmsg_len = sizeof(DestroyRequest),
                  .nlmsg_type = SOCK_DESTROY,
                  .nlmsg_flags = NLM_F_REQUEST,
                  .nlmsg_seq = 0,
                  .nlmsg_pid = 0};
  inet_diag_req_v2 body{};
};
static_assert(sizeof(DestroyRequest) == sizeof(nlmsghdr) + sizeof(inet_diag_req_v2));

constexpr std::size_t kAtOnce = 128;  // their errors fit the socket's buffer

// Numbered from 1; only the last one is answered when it is done.
std::vector<DestroyRequest> requests_for(std::span<const inet_diag_msg> condemned) {
  std::vector<DestroyRequest> out(condemned.size());
  for (std::size_t i = 0; i < condemned.size(); ++i) {
    out[i].header.nlmsg_seq = static_cast<std::uint32_t>(i + 1);
    out[i].body.sdiag_family = condemned[i].idiag_family;
    out[i].body.sdiag_protocol = IPPROTO_TCP;
    out[i].body.id = condemned[i].id;
  }
  out.back().header.nlmsg_flags |= NLM_F_ACK;
  return out;
}

}  // namespace

Result<void> each_tcp_socket(TcpSockets which, const std::function<void(const TcpSocket&)>& visit) {
  NetlinkSocket socket(NETLINK_SOCK_DIAG);
  if (!socket.valid()) return std::unexpected(diag_error(errno));
  const int error =
      each(socket, states_of(which), [&](const nlmsghdr& found) { visit(parse(found)); });
  if (error != 0) return std::unexpected(diag_error(error));
  return {};
}

namespace {

Error cannot_destroy(const inet_diag_msg& one) {
  return {one.idiag_state == TCP_TIME_WAIT
              ? "cannot end connections in TIME_WAIT: this kernel is older than Linux 6.0, or "
                "lacks CONFIG_INET_DIAG_DESTROY"
              : "cannot end connections: this kernel lacks CONFIG_INET_DIAG_DESTROY"};
}

Result<std::size_t> destroy_all(NetlinkSocket& socket, std::span<const inet_diag_msg> condemned) {
  std::size_t ended = 0;
  while (!condemned.empty()) {
    const auto some = condemned.first(std::min(condemned.size(), kAtOnce));
    condemned = condemned.subspan(some.size());
    const auto requests = requests_for(some);
    std::optional<Error> refused;
    ended += some.size();
    const int error = socket.exchange(
        {reinterpret_cast<const char*>(requests.data()), requests.size() * sizeof(DestroyRequest)},
        requests.back().header.nlmsg_seq,
        [&](std::uint32_t number, int failed) {
          --ended;  // ENOENT: it ended by itself
          if (failed == EOPNOTSUPP) refused = cannot_destroy(some[number - 1]);
        },
        NetlinkSocket::Errors::of_one);
    if (error != 0) return std::unexpected(diag_error(error));
    if (refused) return std::unexpected(*refused);
  }
  return ended;
}

}  // namespace

Result<std::size_t> destroy_tcp_sockets(TcpSockets which,
                                        const std::function<bool(const TcpSocket&)>& chosen) {
  NetlinkSocket socket(NETLINK_SOCK_DIAG);
  if (!socket.valid()) return std::unexpected(diag_error(errno));
  std::vector<inet_diag_msg> condemned;
  const int error = each(socket, states_of(which), [&](const nlmsghdr& found) {
    if (chosen(parse(found))) condemned.push_back(message_of(found));
  });
  if (error != 0) return std::unexpected(diag_error(error));
  return destroy_all(socket, condemned);
}

Result<std::size_t> destroy_tcp_sockets_of(std::span<const Prefix> peers,
                                           const std::function<bool(const TcpSocket&)>& spared) {
  if (peers.empty()) return 0;
  NetlinkSocket socket(NETLINK_SOCK_DIAG);
  if (!socket.valid()) return std::unexpected(diag_error(errno));
  std::vector<inet_diag_msg> condemned;
  while (!peers.empty()) {
    const auto some = peers.first(std::min(peers.size(), kMostTests));
    peers = peers.subspan(some.size());
    const int error = each(
        socket, kConnected,
        [&](const nlmsghdr& found) {
          if (!spared(parse(found))) condemned.push_back(message_of(found));
        },
        some);
    if (error != 0) return std::unexpected(diag_error(error));
  }
  return destroy_all(socket, condemned);
}

}  // namespace sluice::kernel
