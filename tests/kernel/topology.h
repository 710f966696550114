// client ── node ── origin, in three network namespaces joined by veth pairs, both IP versions.
//   client 10.1.0.2, fd01::2    node 10.1.0.1, fd01::1 | 10.2.0.1, fd02::1    origin 10.2.0.2,
//   fd02::2
// The sandbox's own namespace is the node.
#pragma once

#include <functional>
#include <string>

#include "tests/kernel/tcp.h"

namespace sluice::kernel::testing {

class Topology {
 public:
  Topology();
  ~Topology();
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  // Runs the body with this thread's network namespace set to another; sockets made there stay
  // there.
  void in_client(const std::function<void()>& body) const;
  void in_origin(const std::function<void()>& body) const;

  Fd connect_from_client(const std::string& address, std::uint16_t port, int seconds = 5) const;
  Fd listen_at_origin(const std::string& address, std::uint16_t port) const;

 private:
  Fd node_, client_, origin_;
};

}  // namespace sluice::kernel::testing
