// A certificate chain and its key, from PEM.
#pragma once

#include <ctime>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/tls/material.h"
#include "gateway/tls/openssl.h"

namespace sluice::gateway::tls {

struct Certificate {
  X509Ptr leaf;
  std::vector<X509Ptr> chain;  // behind the leaf, as in the file
  PrivateKeyPtr key;
  // DNS names in lower case, wildcards as they are: of subjectAltName; where it has none, the
  // common name (RFC 6125 section 6.4.4).
  std::vector<std::string> names;
  std::time_t not_after = 0;
};

// Refuses what is cut short, and a key that is not the leaf's. The error names neither file.
std::expected<Certificate, std::string> parse_certificate(const KeyPair& pair);

// Every certificate of a PEM file, to believe in.
std::expected<X509StorePtr, std::string> parse_authorities(std::string_view pem);

}  // namespace sluice::gateway::tls
