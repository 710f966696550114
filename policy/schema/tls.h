// The fields of `listeners.X.tls` and `upstreams.X.tls`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kTlsCertificate[] = {
    {.name = "cert",
     .type = text,
     .example = "/etc/sluice/a.pem",
     .required = true,
     .doc = "PEM file: the certificate, then those that lead to its root. Relative: to the "
            "policy's directory. Read again when it changes."},
    {.name = "key",
     .type = text,
     .example = "/etc/sluice/a.key",
     .doc = "PEM file of its private key; left out: in the same file."},
};
inline constexpr Field kCertificateAuthority[] = {
    {.name = "cert",
     .type = text,
     .example = "/etc/sluice/authority.pem",
     .required = true,
     .doc = "PEM file: the authority's certificate, which clients have to trust, then those that "
            "lead to its root. Relative: to the policy's directory. Read again when it changes."},
    {.name = "key",
     .type = text,
     .example = "/etc/sluice/authority.key",
     .required = true,
     .doc = "PEM file of its private key; of mode 0600, else it is refused."},
    {.name = "hosts",
     .type = text,
     .shape = list,
     .example = "[api.openai.com, \"*.openai.azure.com\"]",
     .required = true,
     .doc = "Whose TLS is ended: names, or `*.` and a name, which stands for one label."},
};
inline constexpr Field kListenerTls[] = {
    {.name = "certificates",
     .shape = list,
     .example = "[{ cert: a.pem, key: a.key }]",
     .children = kTlsCertificate,
     .excludes = "certificate_authority",
     .doc = "Chosen by the name that the client asks for (SNI), wildcards included; the first is "
            "for all other names. One name may have an ECDSA and an RSA certificate."},
    {.name = "certificate_authority",
     .example = "{ cert: ca.pem, key: ca.key, hosts: [api.openai.com] }",
     .children = kCertificateAuthority,
     .excludes = "certificates",
     .doc = "Instead of certificates, for caught clients: those for `hosts` are made when a client "
            "asks for one (a day's, keys in memory alone), and TLS for every other name passes as "
            "with `protocol: tls`. What was decrypted reaches its original destination by TLS."},
    {.name = "min_version",
     .type = word,
     .fallback = "\"1.2\"",
     .example = "\"1.3\"",
     .words = kTlsVersionWords,
     .doc = "The oldest TLS version spoken."},
    {.name = "ciphers",
     .type = text,
     .fallback = "\"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                 "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                 "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305\"",
     .example = "ECDHE-ECDSA-AES128-GCM-SHA256",
     .doc = "For TLS 1.2, as OpenSSL writes them. TLS 1.3 has only good ones."},
    {.name = "alpn",
     .type = word,
     .shape = list,
     .fallback = "[h2, http/1.1]",
     .example = "[http/1.1]",
     .words = kAlpnWords,
     .doc = "Protocols offered, the preferred one first; of no meaning with `protocol: tcp`."},
    {.name = "strict_sni",
     .type = boolean,
     .fallback = "false",
     .example = "true",
     .doc = "Refuse a client that asks for a name that no certificate is for, or for none."},
    {.name = "client_auth",
     .type = word,
     .fallback = "none",
     .example = "required",
     .words = kClientAuthWords,
     .doc = "Whether a client has to show a certificate. optional: may; one that does not verify "
            "is refused all the same."},
    {.name = "client_ca",
     .type = text,
     .example = "/etc/sluice/clients.pem",
     .doc = "PEM file: who signs clients' certificates."},
};
inline constexpr Field kUpstreamTls[] = {
    {.name = "ca",
     .type = text,
     .fallback = "system",
     .example = "/etc/sluice/origins.pem",
     .doc = "PEM file: who signs the endpoints' certificates; system: the node's own list."},
    {.name = "sni",
     .type = text,
     .fallback = "auto",
     .example = "api.internal",
     .doc = "The name asked for, and that the certificate must be for. auto: the endpoint's DNS "
            "name; for `original_destination` the name that the client asked for; else its "
            "address, and no SNI."},
    {.name = "verify",
     .type = boolean,
     .fallback = "true",
     .example = "false",
     .doc = "false: anybody may answer in the endpoint's place."},
    {.name = "min_version",
     .type = word,
     .fallback = "\"1.2\"",
     .example = "\"1.3\"",
     .words = kTlsVersionWords,
     .doc = "The oldest TLS version spoken."},
    {.name = "cert",
     .type = text,
     .example = "/etc/sluice/gateway.pem",
     .doc = "PEM file: the certificate to show to endpoints that ask for one."},
    {.name = "key",
     .type = text,
     .example = "/etc/sluice/gateway.key",
     .doc = "PEM file of its private key; left out: in the same file."},
};

}  // namespace sluice::policy::fields
