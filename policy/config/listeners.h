// The typed form of `listeners`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/access.h"
#include "policy/config/common.h"
#include "policy/config/tls.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class ListenerProtocol { http, tcp, automatic, tls };

struct ListenerTimeouts {
  Duration detect =
      200ms;            // `auto`: a client silent for so long speaks a server-first protocol: tcp
  Duration handshake = 10s;  // of TLS
  Duration head = 10s;  // whole request head
  Duration body_idle = 30s;  // between two reads of a body
  Duration idle = 60s;       // keep-alive, no request; tcp: no byte either way
  Duration drain = 30s;      // open connections may finish for so long after a stop
};

struct Listener {
  std::string name;
  std::optional<SocketAddress> bind;  // none: steered traffic only
  ListenerProtocol protocol = ListenerProtocol::http;
  std::uint32_t max_connections = 20000;
  AccessRules access;
  std::vector<std::string> limits;  // of units connections and concurrency
  ProxyProtocol accept_proxy_protocol = ProxyProtocol::none;  // from trusted_proxies alone
  std::optional<ListenerTls> tls;
  ListenerTimeouts timeouts;
  Location where;
};

}  // namespace sluice::policy
