// What `tls` and the PROXY protocol cannot mean. Whether the files are good is found out where they
// are read.
#include <algorithm>

#include "policy/host.h"
#include "policy/schema.h"
#include "policy/validate.h"

namespace sluice::policy {
namespace {

// An exact name, or "*." before at least two labels: a whole top-level domain is nobody's.
bool may_be_minted(const std::string& host) {
  std::string_view rest = host;
  const bool wildcard = rest.starts_with("*.");
  if (wildcard) rest.remove_prefix(2);
  const auto normal = normalise_host_pattern(rest);
  return normal && *normal == rest && is_dns_name(rest) &&
         (!wildcard || rest.find('.') != std::string_view::npos);
}

void check_authority(const Listener& listener, Reporter& reporter) {
  const CertificateAuthority& authority = *listener.tls->authority;
  const std::string name = "listener `" + listener.name + "`";
  if (listener.protocol == ListenerProtocol::tcp) {
    reporter.error(authority.where, name + " speaks plain TCP: nothing reads what is decrypted",
                   "`protocol: auto`, or `http`");
  }
  if (listener.tls->strict_sni) {
    reporter.error(listener.tls->where,
                   name + ": strict_sni refuses what a certificate authority lets pass",
                   "remove strict_sni");
  }
  if (authority.hosts.empty()) {
    reporter.error(authority.where, name + ": the certificate authority is for no host",
                   "hosts: [api.openai.com]");
  }
  for (const std::string& host : authority.hosts) {
    if (may_be_minted(host)) continue;
    reporter.error(authority.where,
                   name + ": `" + host + "` is no name that a certificate can be made for",
                   "such as api.openai.com, or `*.openai.azure.com` for one label");
  }
}

void check_listener_tls(const Listener& listener, Reporter& reporter) {
  const std::string name = "listener `" + listener.name + "`";
  if (!listener.tls) return;
  const ListenerTls& tls = *listener.tls;
  if (listener.protocol == ListenerProtocol::tls) {
    reporter.error(tls.where, name + " passes TLS through, so it needs no certificate",
                   "remove tls, or say `protocol: http` to end it here");
  }
  if (tls.certificates.empty() && !tls.authority) {
    reporter.error(tls.where, name + ": tls needs a certificate",
                   "certificates: [{ cert: a.pem, key: a.key }]");
  }
  if (tls.authority) check_authority(listener, reporter);
  if (tls.alpn.empty()) {
    reporter.error(tls.where, name + ": tls.alpn is empty", "known: h2, http/1.1");
  }
  if (tls.client_auth != ClientAuth::none && tls.client_ca.empty()) {
    reporter.error(tls.where, name + ": client_auth needs to know whom to believe",
                   "name a file: client_ca: clients.pem");
  }
  if (tls.client_auth == ClientAuth::none && !tls.client_ca.empty()) {
    reporter.warning(tls.where, name + ": client_ca is not asked without client_auth",
                     "client_auth: required");
  }
}

void check_upstream_tls(const std::string& name, const UpstreamTls& tls, Reporter& reporter) {
  if (!tls.key.empty() && tls.cert.empty()) {
    reporter.error(tls.where, name + ": tls.key has no certificate", "add tls.cert");
  }
  if (tls.sni != kAutoSni && tls.sni.find_first_of("*:/ ") != std::string::npos) {
    reporter.error(tls.where, name + ": `" + tls.sni + "` is no name that can be asked for",
                   "a host name such as api.internal, or auto");
  }
}

void check_proxy_protocol(const Config& config, Reporter& reporter) {
  for (const Upstream& upstream : config.upstreams) {
    if (upstream.send_proxy_protocol == ProxyProtocol::none ||
        upstream.protocol != UpstreamProtocol::http2)
      continue;
    reporter.error(upstream.where,
                   "upstream `" + upstream.name +
                       "`: many clients share an HTTP/2 connection, so that send_proxy_protocol "
                       "cannot name one",
                   "protocol: http1, or leave it to X-Forwarded-For");
  }
}

}  // namespace

void check_tls(const Config& config, Reporter& reporter) {
  check_proxy_protocol(config, reporter);
  for (const Listener& listener : config.listeners)
    check_listener_tls(listener, reporter);
  for (const Upstream& upstream : config.upstreams) {
    if (upstream.tls)
      check_upstream_tls("upstream `" + upstream.name + "`", *upstream.tls, reporter);
  }
  if (!config.redis) return;
  if (config.redis->tls) check_upstream_tls("cluster.redis", *config.redis->tls, reporter);
  if (config.redis->tls_given && !config.redis->tls && config.redis->address.port != 0) {
    reporter.error(config.redis->where, "cluster.redis has `tls`, and its URL is not under TLS",
                   "rediss://, or remove `tls`");
  }
}

}  // namespace sluice::policy
