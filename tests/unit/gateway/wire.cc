#include "wire.h"

#include <arpa/inet.h>
#include <cerrno>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace sluice::gateway::test {
namespace {

constexpr int kGuardMs = 10'000;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool wait_for(int fd, short events, int ms) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, ms) > 0;
}

}  // namespace

Wire::Wire(int fd) : fd_(fd) {}
Wire::Wire(Wire&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      pending_(std::move(other.pending_)),
      reset_(other.reset_) {}
Wire& Wire::operator=(Wire&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(pending_, other.pending_);
  std::swap(reset_, other.reset_);
  return *this;
}
Wire::~Wire() {
  close();
}

Wire Wire::connect(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return Wire(fd);
}

void Wire::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ASSERT_GT(n, 0) << "the peer takes nothing";
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::size_t Wire::send_until_blocked() {
  const std::string block(64 * 1024, 'x');
  std::size_t sent = 0;
  while (wait_for(fd_, POLLOUT, 250)) {
    const ssize_t n = ::send(fd_, block.data(), block.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) break;
    sent += static_cast<std::size_t>(n);
  }
  return sent;
}

bool Wire::fill() {
  if (!wait_for(fd_, POLLIN, kGuardMs)) {
    ADD_FAILURE() << "nothing came within ten seconds; so far: " << pending_.substr(0, 200);
    return false;
  }
  char block[16 * 1024];
  const ssize_t n = ::recv(fd_, block, sizeof block, 0);
  if (n < 0) reset_ = errno == ECONNRESET;
  if (n <= 0) return false;
  pending_.append(block, static_cast<std::size_t>(n));
  return true;
}

std::string Wire::read_until(std::string_view end) {
  std::size_t at = 0;
  while ((at = pending_.find(end)) == std::string::npos) {
    if (!fill()) return std::exchange(pending_, {});
  }
  std::string taken = pending_.substr(0, at + end.size());
  pending_.erase(0, taken.size());
  return taken;
}

std::string Wire::read_bytes(std::size_t count) {
  while (pending_.size() < count && fill()) {
  }
  std::string taken = pending_.substr(0, count);
  pending_.erase(0, taken.size());
  return taken;
}

std::string Wire::read_all() {
  while (fill()) {
  }
  return std::exchange(pending_, {});
}

bool Wire::at_end() {
  return pending_.empty() && !fill();
}
void Wire::half_close() {
  ::shutdown(fd_, SHUT_WR);
}

void Wire::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void Wire::reset() {
  const linger abortive{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abortive, sizeof abortive);
  close();
}

std::string Wire::read_response() {
  std::string response = read_until("\r\n\r\n");
  const std::size_t at = response.find("Content-Length: ");
  if (at != std::string::npos) response += read_bytes(std::stoul(response.substr(at + 16)));
  return response;
}

Origin::Origin() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = loopback(0);
  EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(fd_, 64), 0);
  socklen_t size = sizeof address;
  ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
}

Origin::~Origin() {
  ::close(fd_);
}

Wire Origin::accept() {
  if (!wait_for(fd_, POLLIN, kGuardMs)) {
    ADD_FAILURE() << "no connection within ten seconds";
    return Wire();
  }
  return Wire(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
}

bool Origin::has_connection() const {
  return wait_for(fd_, POLLIN, 0);
}

}  // namespace sluice::gateway::test
