// How TLS is spoken to an upstream's endpoints.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/refcounted.h"
#include "gateway/tls/material.h"
#include "gateway/tls/openssl.h"
#include "policy/address.h"
#include "policy/config/upstreams.h"

namespace sluice::gateway::tls {

// What is told to the endpoint of the protocols inside (RFC 7301).
enum class AlpnOffer : std::uint8_t {
  none,   // bytes of whatever the client speaks
  http1,  // only that: a request that HTTP/2 cannot carry
  any,    // as `upstreams.X.protocol` says
};

// The last session of one worker with one endpoint, to be resumed. A worker's thread only.
class SessionSlot : public RefCounted<SessionSlot> {
 public:
  void set(SessionPtr session) { session_ = std::move(session); }
  SSL_SESSION* get() const { return session_.get(); }

 private:
  SessionPtr session_;
};

// Immutable; any thread.
class ClientContext {
 public:
  // `upstream` has `tls`. The error says which file and why.
  static std::expected<std::shared_ptr<const ClientContext>, std::string> create(
      const policy::Upstream& upstream, const Material& material);

  // A client's side, without a transport. `name`: the one to ask for where the policy says auto;
  // "": the endpoint has none, and its address is verified. `sessions` may be null. Null: out of
  // memory.
  SslPtr connect(std::string_view name, const policy::IpAddress& address, AlpnOffer offer,
                 SessionSlot* sessions) const;

 private:
  ClientContext() = default;
  std::expected<void, std::string> trust(const policy::UpstreamTls& tls, const Material& material);
  std::expected<void, std::string> show(const policy::UpstreamTls& tls, const Material& material);
  bool expect(SSL* ssl, std::string_view name, const policy::IpAddress& address) const;
  static int keep_session(SSL* ssl, SSL_SESSION* session);

  SslCtxPtr context_;
  std::string name_;       // empty: auto
  std::string protocols_;  // as ALPN writes them
  bool verify_ = true;
};
using ClientContextPtr = std::shared_ptr<const ClientContext>;

}  // namespace sluice::gateway::tls
