// Two connected TCP sockets on loopback, and blocking calls on them that give up after a while
// instead of hanging.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace sluice::gateway::testing {

class BlockingSocket {
 public:
  explicit BlockingSocket(int fd = -1);
  BlockingSocket(BlockingSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  BlockingSocket& operator=(BlockingSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~BlockingSocket();

  int fd() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void send(std::string_view bytes) const;  // all of it, or a test failure
  // What comes until `size` bytes are there, the peer ended, or the connection broke.
  std::string receive(std::size_t size) const;
  // The errno of the next receive: 0 for bytes or a clean end.
  int receive_error() const;
  bool at_end() const;  // waits: true for a clean end, false for bytes or an error
  void shutdown_write() const;
  void reset();  // closes with RST
  void close();

 private:
  int fd_;
};

std::pair<BlockingSocket, BlockingSocket> tcp_pair();

}  // namespace sluice::gateway::testing
