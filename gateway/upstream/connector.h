// Opens TCP connections to endpoints.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "policy/address.h"

namespace sluice::gateway {

enum class ConnectError : std::uint8_t {
  refused,             // the endpoint's host said so
  timed_out,           // UpstreamTimeouts::connect, or the kernel's own limit
  unreachable,         // no route, or an ICMP error
  tls,                 // the handshake failed: the certificate, mostly
  connection_limit,    // circuit_breakers.connections: nothing was tried
  out_of_ports,        // ours: no local port is free
  out_of_descriptors,  // ours: descriptors or memory
  not_permitted,       // ours: mark or transparent source without CAP_NET_RAW or CAP_NET_ADMIN
  source_version,      // ours: source_address client, and the client of the other IP version
  other_protocol,      // ALPN chose another one than was thought of: ask again
  other,
};
std::string_view to_string(
    ConnectError error);  // for people: "connection refused", "upstream connection limit"
std::string_view name(ConnectError error);  // the enumerator's, for metrics
// True when the endpoint is to blame; otherwise this node, and the endpoint's health is not
// touched.
constexpr bool blames_endpoint(ConnectError error) {
  return error <= ConnectError::tls;
}

struct ConnectFailure {
  ConnectError reason = ConnectError::other;
  std::error_code code =
      {};  // of the system call; none for timed_out by our own clock and connection_limit
  // A literal: which call failed ("SO_MARK", "connect" …); of TLS: why.
  std::string_view step = {};
  std::string to_string() const;
};

struct ConnectOptions {
  policy::SocketAddress destination;
  std::uint32_t mark = 0;  // SO_MARK; 0: none
  std::optional<policy::IpAddress>
      source;  // source_address: client. The same IP version as the destination's
  bool express = false;  // offered to the express lane
};

struct OpenedSocket {
  int fd = -1;             // non-blocking, close-on-exec, TCP_NODELAY; the caller's to close
  bool connected = false;  // established already (loopback); else writable when done
};

// Makes the socket and starts to connect; never blocks.
// `source`: IP_TRANSPARENT (ip(7)) and a port of the kernel's choice (IP_BIND_ADDRESS_NO_PORT, so
// that ports are used up per destination and not for the whole node).
std::expected<OpenedSocket, ConnectFailure> open_connection(const ConnectOptions& options);

// How a connection that was under way ended (SO_ERROR); nullopt: it stands.
std::optional<ConnectFailure> connection_result(int fd);

}  // namespace sluice::gateway
