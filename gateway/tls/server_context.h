// How a listener ends TLS: its certificates by name, versions, ciphers, ALPN, and what it asks of
// clients.
#pragma once

#include <ctime>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/tls/leaf_mint.h"
#include "gateway/tls/material.h"
#include "gateway/tls/openssl.h"
#include "gateway/tls/ticket_keys.h"
#include "policy/config/listeners.h"

namespace sluice::gateway::tls {

// For the metrics and `status`.
struct CertificateInfo {
  std::string path;
  std::vector<std::string> names;
  std::time_t not_after = 0;
};

// Immutable; any thread.
class ServerContext {
 public:
  // `listener` has `tls`. `tickets` outlives it. The error says which file and why.
  static std::expected<std::shared_ptr<const ServerContext>, std::string> create(
      const policy::Listener& listener, const Material& material, const TicketKeys& tickets);

  // A server's side, without a transport; null: out of memory.
  SslPtr accept() const { return SslPtr(SSL_new(contexts_.front().get())); }
  std::span<const CertificateInfo> certificates() const { return certificates_; }
  // With a certificate authority: TLS is ended for some names alone, see ends().
  bool is_selective() const { return mint_ != nullptr; }
  // Whether it ends TLS of who asks for `name`, in normal form.
  bool ends(std::string_view name) const { return mint_ == nullptr || mint_->covers(name); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using ByName = std::unordered_map<std::string, SSL_CTX*, Hash, std::equal_to<>>;

  ServerContext() = default;
  std::expected<void, std::string> add(const policy::Listener& listener,
                                       const policy::TlsCertificate& wanted,
                                       const Material& material, const TicketKeys& tickets);
  std::expected<void, std::string> add_authority(const policy::Listener& listener,
                                                 const Material& material,
                                                 const TicketKeys& tickets);
  std::expected<SslCtxPtr, std::string> make_context(const policy::Listener& listener,
                                                     const Material& material,
                                                     const TicketKeys& tickets);
  SSL_CTX* find(std::string_view name) const;
  static int refuse_unknown_name(SSL* ssl, int* alert, void* self);
  static int choose_certificate(SSL* ssl, int* alert, void* self);
  static int show_leaf(SSL* ssl, void* self);
  static int choose_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                             const unsigned char* offered, unsigned offered_size, void* self);

  std::vector<SslCtxPtr> contexts_;              // one for each set of names
  std::vector<std::vector<std::string>> names_;  // of each context
  ByName exact_;
  ByName wildcard_;  // without the leading "*"
  std::vector<CertificateInfo> certificates_;
  std::string protocols_;  // as ALPN writes them; empty: none
  X509StorePtr client_ca_;
  std::unique_ptr<LeafMint> mint_;  // null: certificates are given
  bool strict_ = false;
};
using ServerContextPtr = std::shared_ptr<const ServerContext>;

}  // namespace sluice::gateway::tls
