// The typed form of `listeners.X.tls` and `upstreams.X.tls`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/diagnostic.h"

namespace sluice::policy {

enum class TlsVersion { tls12, tls13 };
enum class Alpn { h2, http11 };
enum class ClientAuth { none, optional, required };

// Files are PEM; their paths are absolute, or as the process sees them: what the policy says is
// taken from the directory of the file that says it.
struct TlsCertificate {
  std::string cert;  // the chain, leaf first
  std::string key;   // empty: behind the chain in the same file
  Location where;
};

// An authority whose key is here: certificates for `hosts` are made as clients ask for them, and
// TLS for every other name is not ended.
struct CertificateAuthority {
  TlsCertificate pair;             // its own; the key's file is nobody else's to read
  std::vector<std::string> hosts;  // in normal form; "*." stands for one label
  Location where;

  // "api.example.com": the entry of `hosts` that is for it; null: none.
  const std::string* entry_for(std::string_view host) const;
};

struct ListenerTls {
  std::vector<TlsCertificate> certificates;  // the first one is for names that none is for
  std::optional<CertificateAuthority> authority;  // then there are no certificates
  TlsVersion min_version = TlsVersion::tls12;
  // OpenSSL's list, for TLS 1.2: forward secrecy and AEADs alone, as Mozilla's "intermediate".
  std::string ciphers =
      "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
      "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
  std::vector<Alpn> alpn{Alpn::h2, Alpn::http11};  // the preferred one first
  bool strict_sni = false;
  ClientAuth client_auth = ClientAuth::none;
  std::string client_ca;
  Location where;
};

struct UpstreamTls {
  std::string ca = "system";  // or a file
  std::string sni = "auto";   // or a name
  bool verify = true;
  TlsVersion min_version = TlsVersion::tls12;
  std::string cert;  // shown to the endpoint; empty: none
  std::string key;   // empty: behind the chain in the same file
  Location where;
};

}  // namespace sluice::policy
