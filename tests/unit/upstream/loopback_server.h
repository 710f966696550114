// A real server on loopback for tests, one thread, doing what each test tells it.
#pragma once

#include <arpa/inet.h>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <netinet/in.h>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "policy/address.h"

namespace sluice::gateway::testing_support {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { close(); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Listens on 127.0.0.1 (or ::1). Accepting is up to the test; the kernel completes handshakes
// without it.
class LoopbackServer {
 public:
  explicit LoopbackServer(bool v6 = false, std::uint16_t port = 0, int backlog = 128) : v6_(v6) {
    fd_ = Descriptor(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_addr = in6addr_loopback;
    in6.sin6_port = htons(port);
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in.sin_port = htons(port);
    const auto* address =
        v6 ? reinterpret_cast<const sockaddr*>(&in6) : reinterpret_cast<const sockaddr*>(&in);
    if (::bind(fd_.get(), address, v6 ? sizeof in6 : sizeof in) != 0 ||
        ::listen(fd_.get(), backlog) != 0)
      throw std::runtime_error(std::string("loopback server: ") + std::strerror(errno));
  }

  policy::SocketAddress address() const {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &length);
    const auto port = v6_ ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                          : reinterpret_cast<sockaddr_in*>(&storage)->sin_port;
    return {policy::IpAddress::parse(v6_ ? "::1" : "127.0.0.1").value(), ntohs(port)};
  }

  // Blocks until somebody has connected. Give up after 10 s.
  Descriptor accept() {
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return Descriptor(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  // Somebody has connected and waits to be accepted.
  bool has_waiting() const {
    pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, 0) == 1;
  }

  int fd() const { return fd_.get(); }
  void close() { fd_.close(); }

 private:
  Descriptor fd_;
  bool v6_;
};

}  // namespace sluice::gateway::testing_support
