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

// Whether a name proves anything about the address that a caught client has dialled.
enum class VerifyAuthority { none, audit, strict };
enum class ClientFrom { x_forwarded_for, forwarded };         // of trusted proxies' fields
enum class ForwardedFields { x_forwarded, forwarded, both };  // that upstreams get
enum class RequestIdMode { none, forward, give_back };
enum class TraceContext { pass, start };

struct ListenerTimeouts {
  Duration detect =
      200ms;  // `auto`: a client silent for so long speaks a server-first protocol: tcp
  Duration handshake = 10s;  // of TLS
  Duration head = 10s;       // whole request head
  Duration body_idle = 30s;  // between two reads of a body; an answer: two writes
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
  VerifyAuthority verify_authority = VerifyAuthority::none;
  ClientFrom client_from = ClientFrom::x_forwarded_for;
  ForwardedFields forwarded = ForwardedFields::x_forwarded;
  RequestIdMode request_id = RequestIdMode::forward;
  Express express = Express::none;
  TraceContext trace_context = TraceContext::pass;
  std::uint32_t trace_sample = 1;  // percent of new traces
  bool cancel_on_close = false;    // of HTTP/1.1: who closes its side wants no answer
  std::optional<ListenerTls> tls;
  ListenerTimeouts timeouts;
  Location where;
};

}  // namespace sluice::policy
