#include "tests/unit/relay/tcp_pair.h"

#include <arpa/inet.h>
#include <cerrno>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace sluice::gateway::testing {

BlockingSocket::BlockingSocket(int fd) : fd_(fd) {
  if (fd < 0) return;
  const timeval guard{20, 0};  // against hanging only
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof guard);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &guard, sizeof guard);
}

BlockingSocket::~BlockingSocket() {
  close();
}

void BlockingSocket::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ASSERT_GT(sent, 0) << "errno " << errno;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::string BlockingSocket::receive(std::size_t size) const {
  std::string bytes(size, '\0');
  std::size_t got = 0;
  while (got < size) {
    const ssize_t n = ::recv(fd_, bytes.data() + got, size - got, 0);
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

int BlockingSocket::receive_error() const {
  char byte = 0;
  return ::recv(fd_, &byte, 1, 0) < 0 ? errno : 0;
}

bool BlockingSocket::at_end() const {
  char byte = 0;
  return ::recv(fd_, &byte, 1, 0) == 0;
}

void BlockingSocket::shutdown_write() const {
  ASSERT_EQ(::shutdown(fd_, SHUT_WR), 0);
}

void BlockingSocket::reset() {
  const linger now{1, 0};
  ASSERT_EQ(::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  close();
}

void BlockingSocket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

std::pair<BlockingSocket, BlockingSocket> tcp_pair() {
  const int listening = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(listening, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::listen(listening, 1), 0);
  EXPECT_EQ(::getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int one = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(one, reinterpret_cast<sockaddr*>(&address), size), 0);
  const int other = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  ::close(listening);
  for (const int fd : {one, other}) {
    const int yes = 1;  // as all sockets of the gateway have it
    ::setsockopt(fd, IPPROTO_TCP, TCP_INQ, &yes, sizeof yes);
  }
  return {BlockingSocket(one), BlockingSocket(other)};
}

}  // namespace sluice::gateway::testing
