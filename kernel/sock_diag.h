// The network namespace's TCP sockets, by inet_diag; and ending some of them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "kernel/keeper.h"
#include "kernel/plan.h"

struct inet_diag_msg;

namespace sluice::kernel {

struct TcpSocket {
  Prefix local;  // hosts; IPv4 also when the socket is an IPv6 one with mapped addresses
  Prefix peer;
  std::uint16_t local_port = 0;
  std::uint16_t peer_port = 0;
  bool any_address = false;  // listens on all
  std::uint32_t inode = 0;   // 0: nobody owns it any more
  std::uint32_t mark = 0;    // as far as the kernel tells
  std::uint64_t cookie = 0;  // SO_COOKIE
};

enum class TcpSockets : std::uint8_t {
  listening,
  connected,
  time_wait,
  unacknowledged,  // closed, and the peer may not have all of it yet
  closed,          // both, and those whose peer has not closed
};

Result<void> each_tcp_socket(TcpSockets which, const std::function<void(const TcpSocket&)>& visit);

// Ends the sockets of `which` that `chosen` names: their owner's next call fails with ECONNABORTED,
// the peer gets RST (SOCK_DESTROY; CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN). In TIME_WAIT they go
// without a word (Linux 6.0). Returns how many.
Result<std::size_t> destroy_tcp_sockets(TcpSockets which,
                                        const std::function<bool(const TcpSocket&)>& chosen);

// The same for those whose peer is in one of `peers`: the kernel itself leaves out the others, so
// that a node with many connections costs a walk of its table and no copy of it. One walk for 64
// prefixes. Those that are `spared` stay.
Result<std::size_t> destroy_tcp_sockets_of(std::span<const Prefix> peers,
                                           const std::function<bool(const TcpSocket&)>& spared);

}  // namespace sluice::kernel
