#include "gateway/tls/failure.h"

#include <array>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

namespace sluice::gateway::tls {

std::string_view name(Failure failure) {
  static constexpr std::array<std::string_view, kFailures> kNames{"timeout",
                                                                  "closed",
                                                                  "plain_http",
                                                                  "not_tls",
                                                                  "version",
                                                                  "cipher",
                                                                  "alpn",
                                                                  "unknown_name",
                                                                  "no_certificate",
                                                                  "expired",
                                                                  "unknown_authority",
                                                                  "bad_certificate",
                                                                  "refused",
                                                                  "malformed",
                                                                  "unready"};
  return kNames[static_cast<std::size_t>(failure)];
}

Failure take_failure() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0 || ERR_SYSTEM_ERROR(code)) return Failure::closed;
  if (ERR_GET_LIB(code) != ERR_LIB_SSL) return Failure::malformed;
  const int reason = ERR_GET_REASON(code);
  switch (reason) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return Failure::closed;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
      return Failure::plain_http;
    case SSL_R_WRONG_VERSION_NUMBER:
      return Failure::not_tls;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return Failure::version;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
      return Failure::cipher;
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return Failure::alpn;
    case SSL_R_CALLBACK_FAILED:  // the only callback that refuses is the one for SNI
      return Failure::unknown_name;
    case SSL_R_CERT_CB_ERROR:  // a certificate authority that is out of date
      return Failure::unready;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return Failure::no_certificate;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return Failure::bad_certificate;
    default:
      return reason >= SSL_AD_REASON_OFFSET ? Failure::refused : Failure::malformed;
  }
}

Failure failure_of_verification(long result) {
  switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return Failure::expired;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return Failure::unknown_authority;
    default:
      return Failure::bad_certificate;
  }
}

}  // namespace sluice::gateway::tls
