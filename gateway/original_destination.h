// Where a caught connection wanted to go, and socket addresses in the policy's terms.
#pragma once

#include <optional>
#include <sys/socket.h>

#include "policy/address.h"

namespace sluice::gateway {

// AF_INET and AF_INET6; an IPv4 address that came mapped on a dual-stack socket is an IPv4 address.
// Nullopt: another family.
std::optional<policy::SocketAddress> to_socket_address(const sockaddr_storage& address);

// The local address of an accepted socket: for steered and transparently caught connections the
// one that the client dialled (getsockname(2); tproxy.rst in the kernel's documentation).
std::optional<policy::SocketAddress> local_address(int fd);
// SO_COOKIE (socket(7)): no other socket since the kernel was started has it.
std::optional<std::uint64_t> socket_cookie(int fd);

}  // namespace sluice::gateway
