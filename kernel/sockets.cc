#include "kernel/sockets.h"

#include <cerrno>
#include <cstring>
#include <map>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

using protocol::OwnedFd;
using Address = sockaddr_storage;

socklen_t length_of(const Address& address) {
  return address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

Address socket_address(const Prefix& host, std::uint16_t port) {
  Address address{};
  if (host.v4) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, host.address.data() + 12, 4);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, host.address.data(), 16);
  }
  return address;
}

void set_port(Address& address, std::uint16_t port) {
  if (address.ss_family == AF_INET) {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  }
}

std::string endpoint_text(const Prefix& host, std::uint16_t port) {
  return message("{}{}{}:{}", host.v4 ? "" : "[", to_text(host), host.v4 ? "" : "]", port);
}

bool set_option(int fd, int level, int option, int value) {
  return ::setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

OwnedFd tcp_socket(int family) {
  return OwnedFd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

std::shared_ptr<const OwnedFd> find_kept(const std::vector<OwnedSocket>& kept,
                                         const std::string& identity, std::uint32_t worker) {
  for (const auto& socket : kept) {
    if (socket.worker == worker && socket.identity == identity) return socket.fd;
  }
  return nullptr;
}

// Accepted sockets inherit both, those too whose connections come before the gateway: no small
// answer waits for an acknowledgement, and reads say whether they left anything (TCP_INQ, 4.18).
int listen_on(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, IPPROTO_TCP, TCP_INQ, 1);
  return ::listen(fd, kListenBacklog);
}

Error bind_error(const Listener& listener, int error) {
  const std::string at = message("listener {}: cannot listen on {}", listener.name,
                                 endpoint_text(*listener.bind_address, listener.bind_port));
  switch (error) {
    case EADDRINUSE:
      return {at +
              ": the address is in use; choose another port, or stop the process that has it (`ss "
              "-ltnp` names it)"};
    case EADDRNOTAVAIL:
      return {at +
              ": no interface of this host has that address; use one that it has, 0.0.0.0 or ::"};
    case EACCES:
      return {at +
              ": ports below 1024 need CAP_NET_BIND_SERVICE; run as root or choose a higher port"};
    default:
      return {at + ": " + std::strerror(error)};
  }
}

Result<OwnedFd> bind_socket(const Listener& listener, bool shared) {
  const Address address = socket_address(*listener.bind_address, listener.bind_port);
  OwnedFd fd = tcp_socket(address.ss_family);
  if (!fd) return std::unexpected(bind_error(listener, errno));
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (shared) set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (address.ss_family == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length_of(address)) != 0 ||
      listen_on(fd.get()) != 0) {
    return std::unexpected(bind_error(listener, errno));
  }
  return fd;
}

Error steered_error(const Listener& listener, WayIn way, const char* what) {
  return {message("listener {} (way {}): {}: {}", listener.name, to_text(way), what,
                  std::strerror(errno))};
}

// Workers share a port, so that one port is used up by a listener and way, not one by each worker.
Result<OwnedFd> steered_socket(const Listener& listener, WayIn way, std::uint16_t port) {
  OwnedFd fd = tcp_socket(AF_INET6);
  const bool v6 = static_cast<bool>(fd);
  if (!v6) fd = tcp_socket(AF_INET);  // ipv6.disable=1
  if (!fd) return std::unexpected(steered_error(listener, way, "socket"));
  // One bit for both IP versions; without it the answer's foreign source address is refused.
  const bool transparent = v6 ? set_option(fd.get(), IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
                              : set_option(fd.get(), IPPROTO_IP, IP_TRANSPARENT, 1);
  if (!transparent)
    return std::unexpected(steered_error(listener, way, "IP_TRANSPARENT (needs CAP_NET_ADMIN)"));
  if (v6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  Address address{};
  address.ss_family = v6 ? AF_INET6 : AF_INET;
  set_port(address, port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length_of(address)) != 0) {
    return std::unexpected(steered_error(listener, way, "bind"));
  }
  if (listen_on(fd.get()) != 0) return std::unexpected(steered_error(listener, way, "listen"));
  return fd;
}

}  // namespace

std::uint16_t port_of(int fd) {
  Address address{};
  socklen_t length = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                   : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

Result<std::vector<OwnedSocket>> open_bind_sockets(const std::vector<Listener>& listeners,
                                                   std::uint32_t workers,
                                                   const std::vector<OwnedSocket>& kept) {
  std::vector<OwnedSocket> sockets;
  for (std::uint32_t index = 0; index < listeners.size(); index++) {
    const Listener& listener = listeners[index];
    if (!listener.bind_address) continue;
    const std::string identity =
        "bind " + endpoint_text(*listener.bind_address, listener.bind_port);
    if (!find_kept(kept, identity, 0)) {
      // SO_REUSEPORT would share the port silently with another process of the same user: ask
      // without it first.
      if (auto probe = bind_socket(listener, false); !probe) return std::unexpected(probe.error());
    }
    for (std::uint32_t worker = 0; worker < workers; worker++) {
      auto fd = find_kept(kept, identity, worker);
      if (!fd) {
        auto opened = bind_socket(listener, true);
        if (!opened) return std::unexpected(opened.error());
        fd = std::make_shared<const OwnedFd>(std::move(*opened));
      }
      sockets.push_back({.listener = index,
                         .way = WayIn::bind,
                         .worker = worker,
                         .identity = identity,
                         .fd = std::move(fd)});
    }
  }
  return sockets;
}

Result<std::vector<OwnedSocket>> open_steered_sockets(const Plan& plan,
                                                      const std::vector<OwnedSocket>& kept) {
  std::map<std::pair<std::uint32_t, WayIn>, bool> wanted;  // ─► by tproxy
  for (const auto& intercept : plan.intercepts)
    wanted[{intercept.listener, intercept.way}] |= intercept.steering == SteerBy::tproxy;
  std::vector<OwnedSocket> sockets;
  for (const auto& [key, by_tproxy] : wanted) {
    const auto& [index, way] = key;
    const Listener& listener = plan.listeners[index];
    const std::string identity =
        std::string(to_text(way)) + " " + listener.name + (by_tproxy ? " tproxy" : "");
    std::uint16_t port = 0;
    for (std::uint32_t worker = 0; worker < plan.workers; worker++) {
      auto fd = find_kept(kept, identity, worker);
      if (!fd) {
        auto opened = steered_socket(listener, way, port);
        if (!opened) return std::unexpected(opened.error());
        fd = std::make_shared<const OwnedFd>(std::move(*opened));
      }
      port = port_of(fd->get());
      sockets.push_back({.listener = index,
                         .way = way,
                         .worker = worker,
                         .by_tproxy = by_tproxy,
                         .identity = identity,
                         .fd = std::move(fd)});
    }
  }
  return sockets;
}

}  // namespace sluice::kernel
