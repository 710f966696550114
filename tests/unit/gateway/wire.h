// Blocking loopback sockets for tests: a client and an origin that say exactly what they are told
// to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::gateway::test {

// A connected TCP socket. Reads give up after ten seconds, so that a test fails instead of hanging.
class Wire {
 public:
  explicit Wire(int fd = -1);
  Wire(Wire&& other) noexcept;
  Wire& operator=(Wire&& other) noexcept;
  ~Wire();
  static Wire connect(std::uint16_t port);

  void send(std::string_view bytes);  // all of it
  std::size_t send_until_blocked();   // as much as fits in a quarter of a second without a taker
  std::string read_until(std::string_view end);  // up to and with `end`; less at the end of input
  std::string read_bytes(std::size_t count);
  std::string read_all();  // to the end of input
  bool at_end();           // nothing more: closed or reset by the peer
  bool was_reset() const { return reset_; }
  void half_close();
  void close();
  void reset();  // closes with RST
  // One response with Content-Length: head and body.
  std::string read_response();

 private:
  bool fill();
  int fd_;
  std::string pending_;
  bool reset_ = false;
};

// A listening socket on a loopback port of the kernel's choice.
class Origin {
 public:
  Origin();
  ~Origin();
  std::uint16_t port() const { return port_; }
  Wire accept();                // the next connection; fails the test after ten seconds
  bool has_connection() const;  // one is waiting
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

}  // namespace sluice::gateway::test
