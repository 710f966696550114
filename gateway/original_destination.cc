#include "gateway/original_destination.h"

#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>

namespace sluice::gateway {

std::optional<policy::SocketAddress> to_socket_address(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    return policy::SocketAddress{policy::IpAddress::v4(ntohl(v4.sin_addr.s_addr)),
                                 ntohs(v4.sin_port)};
  }
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    policy::IpAddress::Bytes bytes;
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    return policy::SocketAddress{policy::IpAddress(bytes), ntohs(v6.sin6_port)};
  }
  return std::nullopt;
}

std::optional<std::uint64_t> socket_cookie(int fd) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

std::optional<policy::SocketAddress> local_address(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return std::nullopt;
  return to_socket_address(address);
}

}  // namespace sluice::gateway
