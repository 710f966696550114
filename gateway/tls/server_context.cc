#include "gateway/tls/server_context.h"

#include <algorithm>
#include <array>
#include <openssl/evp.h>

#include "gateway/clocks.h"
#include "gateway/tls/certificate.h"
#include "gateway/tls/client_hello.h"
#include "policy/host.h"

namespace sluice::gateway::tls {
namespace {

constexpr long kSessionSeconds = 12 * 60 * 60;

// RFC 7301 section 3.1: each name behind its length.
std::string protocol_list(const policy::ListenerTls& tls) {
  std::string list;
  for (const policy::Alpn protocol : tls.alpn)
    list += protocol == policy::Alpn::h2 ? std::string("\x02h2") : std::string("\x08http/1.1");
  return list;
}

// Tickets of one listener are of no use at another, nor after the authorities have changed,
// clients' or ours: what a client has shown or believed elsewhere says nothing here.
void set_session_scope(SSL_CTX* context, const policy::Listener& listener,
                       std::string_view client_ca, std::string_view own_authority) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  std::string scope = listener.name + '\n' + std::to_string(int(listener.tls->client_auth)) + '\n';
  scope += client_ca;
  scope += '\n';
  scope += own_authority;
  EVP_Digest(scope.data(), scope.size(), digest.data(), &size, EVP_sha256(), nullptr);
  SSL_CTX_set_session_id_context(context, digest.data(),
                                 std::min(size, unsigned{SSL_MAX_SID_CTX_LENGTH}));
}

void ask_for_certificate(SSL_CTX* context, const policy::Listener& listener, X509_STORE* store) {
  if (listener.tls->client_auth == policy::ClientAuth::none) return;
  const bool required = listener.tls->client_auth == policy::ClientAuth::required;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  SSL_CTX_set1_verify_cert_store(context, store);
  // Their names, so that a client knows which certificate to show.
  STACK_OF(X509)* all = X509_STORE_get1_all_certs(store);
  for (int i = 0; i < sk_X509_num(all); ++i)
    SSL_CTX_add_client_CA(context, sk_X509_value(all, i));
  sk_X509_pop_free(all, X509_free);
}

std::expected<void, std::string> use(SSL_CTX* context, const Certificate& certificate) {
  if (SSL_CTX_use_certificate(context, certificate.leaf.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, certificate.key.get()) != 1)
    return std::unexpected(last_error());
  SSL_CTX_clear_chain_certs(context);
  for (const X509Ptr& link : certificate.chain) {
    if (SSL_CTX_add1_chain_cert(context, link.get()) != 1) return std::unexpected(last_error());
  }
  return {};
}

}  // namespace

std::expected<std::shared_ptr<const ServerContext>, std::string> ServerContext::create(
    const policy::Listener& listener, const Material& material, const TicketKeys& tickets) {
  std::shared_ptr<ServerContext> self(new ServerContext);
  const policy::ListenerTls& tls = *listener.tls;
  self->strict_ = tls.strict_sni;
  if (listener.protocol != policy::ListenerProtocol::tcp) self->protocols_ = protocol_list(tls);
  if (tls.client_auth != policy::ClientAuth::none) {
    const SecretPtr pem = material.authority(tls.client_ca);
    if (!pem) return std::unexpected(tls.client_ca + ": was not read");
    auto store = parse_authorities(pem->view());
    if (!store) return std::unexpected(tls.client_ca + ": " + store.error());
    self->client_ca_ = std::move(*store);
  }
  for (const policy::TlsCertificate& wanted : tls.certificates) {
    if (auto added = self->add(listener, wanted, material, tickets); !added)
      return std::unexpected(wanted.cert + ": " + added.error());
  }
  if (tls.authority) {
    if (auto added = self->add_authority(listener, material, tickets); !added)
      return std::unexpected(tls.authority->pair.cert + ": " + added.error());
  }
  if (self->contexts_.empty()) return std::unexpected("there is no certificate");
  return self;
}

std::expected<void, std::string> ServerContext::add(const policy::Listener& listener,
                                                    const policy::TlsCertificate& wanted,
                                                    const Material& material,
                                                    const TicketKeys& tickets) {
  const KeyPair* pair = material.find(wanted.cert, wanted.key);
  if (pair == nullptr) return std::unexpected("was not read");
  auto certificate = parse_certificate(*pair);
  if (!certificate) return std::unexpected(certificate.error());
  certificates_.push_back({wanted.cert, certificate->names, certificate->not_after});

  // An ECDSA certificate beside an RSA one for the same names: OpenSSL shows what the client can
  // check.
  std::vector<std::string> names = certificate->names;
  std::ranges::sort(names);
  for (std::size_t i = 0; i < contexts_.size(); ++i) {
    if (names_[i] == names && !names.empty()) return use(contexts_[i].get(), *certificate);
  }
  auto context = make_context(listener, material, tickets);
  if (!context) return std::unexpected(context.error());
  if (auto used = use(context->get(), *certificate); !used) return used;
  for (const std::string& name : names) {
    if (name.starts_with("*.")) {
      wildcard_.emplace(name.substr(1), context->get());
    } else {
      exact_.emplace(name, context->get());
    }
  }
  contexts_.push_back(std::move(*context));
  names_.push_back(std::move(names));
  return {};
}

std::expected<void, std::string> ServerContext::add_authority(const policy::Listener& listener,
                                                              const Material& material,
                                                              const TicketKeys& tickets) {
  const policy::CertificateAuthority& wanted = *listener.tls->authority;
  const KeyPair* pair = material.find(wanted.pair.cert, wanted.pair.key);
  if (pair == nullptr) return std::unexpected("was not read");
  auto authority = parse_certificate(*pair);
  if (!authority) return std::unexpected(authority.error());
  if (auto able = may_sign(*authority); !able) return able;
  certificates_.push_back({wanted.pair.cert, wanted.hosts, authority->not_after});
  auto context = make_context(listener, material, tickets);
  if (!context) return std::unexpected(context.error());
  SSL_CTX_set_cert_cb(context->get(), &ServerContext::show_leaf, this);
  mint_ = std::make_unique<LeafMint>(std::move(*authority), wanted);
  contexts_.push_back(std::move(*context));
  names_.emplace_back();
  return {};
}

std::expected<SslCtxPtr, std::string> ServerContext::make_context(const policy::Listener& listener,
                                                                  const Material& material,
                                                                  const TicketKeys& tickets) {
  const policy::ListenerTls& tls = *listener.tls;
  SslCtxPtr context(SSL_CTX_new(TLS_server_method()));
  if (!context) return std::unexpected(last_error());
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(
      raw, tls.min_version == policy::TlsVersion::tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_PRIORITIZE_CHACHA | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // An idle connection holds no record buffer; a read takes what the socket has at once.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_read_ahead(raw, 1);
  if (SSL_CTX_set_cipher_list(raw, tls.ciphers.c_str()) != 1)
    return std::unexpected("tls.ciphers: OpenSSL knows none of them: " + last_error());
  SSL_CTX_set_dh_auto(raw, 0);
  // Sessions live in tickets alone, which no worker has to share a table for.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(raw, kSessionSeconds);
  SSL_CTX_set_num_tickets(raw, 1);
  tickets.attach(raw);
  const SecretPtr client_ca = material.authority(tls.client_ca);
  const KeyPair* own =
      tls.authority ? material.find(tls.authority->pair.cert, tls.authority->pair.key) : nullptr;
  set_session_scope(raw, listener, client_ca ? client_ca->view() : std::string_view(),
                    own != nullptr ? own->cert->view() : std::string_view());
  ask_for_certificate(raw, listener, client_ca_.get());
  if (strict_) SSL_CTX_set_client_hello_cb(raw, &ServerContext::refuse_unknown_name, this);
  SSL_CTX_set_tlsext_servername_callback(raw, &ServerContext::choose_certificate);
  SSL_CTX_set_tlsext_servername_arg(raw, this);
  if (!protocols_.empty()) SSL_CTX_set_alpn_select_cb(raw, &ServerContext::choose_protocol, this);
  return context;
}

SSL_CTX* ServerContext::find(std::string_view name) const {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::array<char, 255> memory;
  if (name.empty() || name.size() > memory.size()) return nullptr;
  std::ranges::transform(name, memory.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  const std::string_view lower(memory.data(), name.size());
  if (const auto exact = exact_.find(lower); exact != exact_.end()) return exact->second;
  // A wildcard stands for one label (RFC 6125 section 6.4.3).
  const std::size_t dot = lower.find('.');
  if (dot == std::string_view::npos || dot == 0) return nullptr;
  const auto wild = wildcard_.find(lower.substr(dot));
  return wild == wildcard_.end() ? nullptr : wild->second;
}

// Asked of the hello itself: where a session of TLS 1.2 is resumed, SSL_get_servername(3) gives the
// session's name.
int ServerContext::refuse_unknown_name(SSL* ssl, int* alert, void* self) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  std::optional<std::string_view> name;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) == 1)
    name = host_name_in({reinterpret_cast<const char*>(data), size});
  const auto& context = *static_cast<const ServerContext*>(self);
  if (name && context.find(*name) != nullptr) return SSL_CLIENT_HELLO_SUCCESS;
  *alert = SSL_AD_UNRECOGNIZED_NAME;
  return SSL_CLIENT_HELLO_ERROR;
}

int ServerContext::choose_certificate(SSL* ssl, int* /*alert*/, void* self) {
  const auto& context = *static_cast<const ServerContext*>(self);
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  SSL_CTX* const found = name == nullptr ? nullptr : context.find(name);
  if (found != nullptr) {
    SSL_set_SSL_CTX(ssl, found);
    return SSL_TLSEXT_ERR_OK;
  }
  return name == nullptr ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_OK;
}

// 0 ends the handshake: nobody comes here with a name that is not covered, so that the authority is
// out of date.
int ServerContext::show_leaf(SSL* ssl, void* self) {
  LeafMint& mint = *static_cast<const ServerContext*>(self)->mint_;
  const char* asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  std::array<char, policy::kMaxHostLength> memory;
  const auto name = policy::normalise_host(asked == nullptr ? "" : asked, memory);
  const LeafPtr leaf = name ? mint.leaf_for(*name, unix_now()) : nullptr;
  if (!leaf) return 0;
  return SSL_use_cert_and_key(ssl, leaf->certificate.get(), leaf->key.get(), mint.chain(), 1);
}

int ServerContext::choose_protocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                                   const unsigned char* offered, unsigned offered_size,
                                   void* self) {
  const std::string& own = static_cast<const ServerContext*>(self)->protocols_;
  unsigned char* chosen = nullptr;
  const int result =
      SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(own.data()),
                            static_cast<unsigned>(own.size()), offered, offered_size);
  *out = chosen;
  // RFC 7301 section 3.2: no_application_protocol.
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace sluice::gateway::tls
