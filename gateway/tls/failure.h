// Why a TLS handshake failed.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluice::gateway::tls {

enum class Failure : std::uint8_t {
  timeout,
  closed,             // by the peer, in the middle
  plain_http,         // a request without TLS
  not_tls,            // it speaks something else
  version,            // none in common
  cipher,             // none in common, or none for the certificate
  alpn,               // no protocol in common
  unknown_name,       // strict_sni
  no_certificate,     // a client that has to show one
  expired,            // the peer's certificate, or not valid yet
  unknown_authority,  // it is signed by nobody whom we believe
  bad_certificate,    // it is not to be believed for another reason
  refused,            // the peer sent an alert: it does not like our certificate, mostly
  malformed,
  unready,  // ours: the listener has no usable certificate, or memory is short
};
inline constexpr std::size_t kFailures = 15;

std::string_view name(Failure failure);  // as in metrics: "not_tls"

// What OpenSSL's queue of errors says; empties it. Call at once after the failing call.
Failure take_failure();
// Of a certificate that is not believed, by what its verification said (X509_V_ERR_…).
Failure failure_of_verification(long result);

}  // namespace sluice::gateway::tls
