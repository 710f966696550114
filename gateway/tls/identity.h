// Who a client has shown itself to be by its certificate (mutual TLS). For access rules, limits and
// header variables: `client.transport->tls()->identity()`.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/tls/openssl.h"

namespace sluice::gateway::tls {

struct Identity {
  std::string subject;            // RFC 2253: "CN=batch,O=Example"
  std::string common_name;        // "" if there is none
  std::vector<std::string> dns;   // of subjectAltName
  std::vector<std::string> uris;  // the same: "spiffe://example.org/batch"
  std::string serial;             // hexadecimal
  std::vector<std::string_view> names;  // dns, uris and common_name, for access rules and limits
  std::string fingerprint;        // SHA-256 of the certificate, hexadecimal in lower case
};

// Null: the client has shown none. Without verification a handshake does not get so far.
std::unique_ptr<const Identity> identity_of(const SSL* ssl);

}  // namespace sluice::gateway::tls
