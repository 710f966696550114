#include "gateway/tls/client_context.h"

#include <openssl/x509v3.h>

#include "gateway/tls/certificate.h"
#include "policy/schema.h"

namespace sluice::gateway::tls {
namespace {

constexpr std::string_view kHttp1 = "\x08http/1.1";

int sessions_slot() {
  static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}

std::string protocols_of(policy::UpstreamProtocol protocol) {
  switch (protocol) {
    case policy::UpstreamProtocol::http2:
      return "\x02h2";
    case policy::UpstreamProtocol::http1:
      return std::string(kHttp1);
    case policy::UpstreamProtocol::automatic:
      break;
  }
  return std::string("\x02h2").append(kHttp1);
}

}  // namespace

std::expected<std::shared_ptr<const ClientContext>, std::string> ClientContext::create(
    const policy::Upstream& upstream, const Material& material) {
  const policy::UpstreamTls& tls = *upstream.tls;
  std::shared_ptr<ClientContext> self(new ClientContext);
  self->context_.reset(SSL_CTX_new(TLS_client_method()));
  if (!self->context_) return std::unexpected(last_error());
  SSL_CTX* const raw = self->context_.get();
  self->verify_ = tls.verify;
  if (tls.sni != policy::kAutoSni) self->name_ = tls.sni;
  self->protocols_ = protocols_of(upstream.protocol);
  SSL_CTX_set_min_proto_version(
      raw, tls.min_version == policy::TlsVersion::tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_read_ahead(raw, 1);
  // Kept by SessionSlot, a worker's own.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(raw, &ClientContext::keep_session);
  if (auto trusted = self->trust(tls, material); !trusted) return std::unexpected(trusted.error());
  if (auto shown = self->show(tls, material); !shown) return std::unexpected(shown.error());
  return self;
}

std::expected<void, std::string> ClientContext::trust(const policy::UpstreamTls& tls,
                                                      const Material& material) {
  SSL_CTX_set_verify(context_.get(), tls.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (!tls.verify) return {};
  const SecretPtr pem = material.authority(tls.ca);
  if (!pem) return std::unexpected(tls.ca + ": was not read");
  auto store = parse_authorities(pem->view());
  if (!store) return std::unexpected(tls.ca + ": " + store.error());
  SSL_CTX_set_cert_store(context_.get(), store->release());
  return {};
}

std::expected<void, std::string> ClientContext::show(const policy::UpstreamTls& tls,
                                                     const Material& material) {
  if (tls.cert.empty()) return {};
  const KeyPair* pair = material.find(tls.cert, tls.key);
  if (pair == nullptr) return std::unexpected(tls.cert + ": was not read");
  auto certificate = parse_certificate(*pair);
  if (!certificate) return std::unexpected(tls.cert + ": " + certificate.error());
  if (SSL_CTX_use_certificate(context_.get(), certificate->leaf.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context_.get(), certificate->key.get()) != 1)
    return std::unexpected(tls.cert + ": " + last_error());
  for (const X509Ptr& link : certificate->chain)
    SSL_CTX_add1_chain_cert(context_.get(), link.get());
  return {};
}

SslPtr ClientContext::connect(std::string_view name, const policy::IpAddress& address,
                              AlpnOffer offer, SessionSlot* sessions) const {
  SslPtr ssl(SSL_new(context_.get()));
  if (!ssl) return nullptr;
  SSL_set_connect_state(ssl.get());
  if (!expect(ssl.get(), name_.empty() ? name : std::string_view(name_), address)) return nullptr;
  const std::string_view protocols = offer == AlpnOffer::none    ? std::string_view()
                                     : offer == AlpnOffer::http1 ? kHttp1
                                                                 : std::string_view(protocols_);
  if (!protocols.empty() &&
      SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned>(protocols.size())) != 0)
    return nullptr;
  SSL_set_ex_data(ssl.get(), sessions_slot(), sessions);
  if (sessions != nullptr && sessions->get() != nullptr)
    SSL_set_session(ssl.get(), sessions->get());
  return ssl;
}

// RFC 6066 section 3: an address is never sent as SNI, and is verified as an address.
bool ClientContext::expect(SSL* ssl, std::string_view name,
                           const policy::IpAddress& address) const {
  const std::string host(name);
  if (host.empty() || policy::IpAddress::parse(host)) {
    if (!verify_) return true;
    const std::string text = host.empty() ? address.to_string() : host;
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text.c_str()) == 1;
  }
  if (SSL_set_tlsext_host_name(ssl, host.c_str()) != 1) return false;
  if (!verify_) return true;
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl, host.c_str()) == 1;
}

// Also for each ticket that TLS 1.3 brings after the handshake.
int ClientContext::keep_session(SSL* ssl, SSL_SESSION* session) {
  auto* slot = static_cast<SessionSlot*>(SSL_get_ex_data(ssl, sessions_slot()));
  if (slot == nullptr) return 0;
  slot->set(SessionPtr(session));
  return 1;  // the reference is ours
}

}  // namespace sluice::gateway::tls
