// From the tree to `tls`, of listeners and of upstreams.
#include "policy/binding/paths.h"
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/host.h"
#include "policy/schema.h"

namespace sluice::policy::binding {
namespace {

void file_path(const Node& node, std::string_view key, const Reporter& reporter, std::string& out) {
  const Node* child = node.find(key);
  if (child == nullptr || child->kind != Node::Kind::scalar) return;
  out = beside_policy(*child, reporter, child->text);
}

void certificate(const Node& node, const Reporter& reporter, TlsCertificate& out) {
  out.where = reporter.locate(node.where());
  file_path(node, "cert", reporter, out.cert);
  file_path(node, "key", reporter, out.key);
}

// What is no host stays as it is, which check_tls() reports.
void certificate_authority(const Node& node, const Reporter& reporter, CertificateAuthority& out) {
  out.where = reporter.locate(node.where());
  certificate(node, reporter, out.pair);
  each(node, "hosts", [&](const Node& host) {
    out.hosts.push_back(normalise_host_pattern(host.text).value_or(host.text));
  });
}

}  // namespace

void listener_tls(const Node& node, const Reporter& reporter, ListenerTls& out) {
  out.where = reporter.locate(node.where());
  each(node, "certificates", [&](const Node& element) {
    certificate(element, reporter, out.certificates.emplace_back());
  });
  if (const Node* authority = node.find("certificate_authority"))
    certificate_authority(*authority, reporter, out.authority.emplace());
  optional_word(node, "min_version", kTlsVersionWords, out.min_version);
  optional(node, "ciphers", out.ciphers);
  if (const Node* alpn = node.find("alpn")) {
    out.alpn.clear();
    for (const Node& word : alpn->children)
      read_word(word, kAlpnWords, out.alpn.emplace_back());
  }
  optional(node, "strict_sni", out.strict_sni);
  optional_word(node, "client_auth", kClientAuthWords, out.client_auth);
  file_path(node, "client_ca", reporter, out.client_ca);
}

void upstream_tls(const Node& node, const Reporter& reporter, UpstreamTls& out) {
  out.where = reporter.locate(node.where());
  optional(node, "sni", out.sni);
  out.sni = lower(out.sni);
  optional(node, "verify", out.verify);
  optional_word(node, "min_version", kTlsVersionWords, out.min_version);
  if (const Node* ca = node.find("ca"); ca != nullptr && ca->text != kSystemCa)
    file_path(node, "ca", reporter, out.ca);
  file_path(node, "cert", reporter, out.cert);
  file_path(node, "key", reporter, out.key);
}

}  // namespace sluice::policy::binding
