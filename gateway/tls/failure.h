// Why a TLS handshake failed.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluice::gateway::tls {

enum class Failure : std::uint8_t {
  timeout,
  closed,           // by the peer, in the middle
  plain_http,       // a request without TLS
  not_tls,          // it speaks something else
  version,          // none in common
  cipher,           // none in common, or none for the certificate
  alpn,             // no protocol in common
  unknown_name,     // strict_sni
  no_certificate,   // a client that has to show one
  bad_certificate,  // of the peer: not to be believed
  refused,          // the peer sent an alert: it does not like our certificate, mostly
  malformed,
  unready,  // ours: the listener has no usable certificate, or memory is short
};
inline constexpr std::size_t kFailures = 13;

std::string_view name(Failure failure);  // as in metrics: "not_tls"

// What OpenSSL's queue of errors says; empties it. Call at once after the failing call.
Failure take_failure();

}  // namespace sluice::gateway::tls
