// What one policy needs of TLS, ready for use: a context for each listener and each upstream.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "gateway/tls/client_context.h"
#include "gateway/tls/material.h"
#include "gateway/tls/server_context.h"
#include "gateway/tls/ticket_keys.h"
#include "policy/config.h"

namespace sluice::gateway::tls {

struct Problem {
  policy::Location where;
  std::string message;
};
using Problems = std::vector<Problem>;

// Immutable; any thread.
class Contexts {
 public:
  // What means the same as in `before` is taken from there: its object, and so the connections that
  // were made with it, stay. `before` may be null.
  static std::expected<std::shared_ptr<const Contexts>, Problems> build(
      const policy::Config& config, const Material& material, const TicketKeys& tickets,
      const Contexts* before);

  // With none: handshakes are refused as `unready`.
  static std::shared_ptr<const Contexts> without(const policy::Config& config);

  // Null: no TLS.
  const ServerContextPtr& listener(std::size_t index) const { return listeners_[index].context; }
  const ClientContextPtr& upstream(std::size_t index) const { return upstreams_[index].context; }
  const ClientContextPtr& redis() const { return redis_.context; }  // cluster.redis
  const ClientContextPtr& kubernetes() const { return kubernetes_.context; }  // its API server

 private:
  template <typename Pointer>
  struct Entry {
    std::string ingredients;  // a digest of all that the context is made of
    Pointer context;
  };
  std::vector<Entry<ServerContextPtr>> listeners_;  // as Config::listeners
  std::vector<Entry<ClientContextPtr>> upstreams_;
  Entry<ClientContextPtr> redis_;
  Entry<ClientContextPtr> kubernetes_;
};
using ContextsPtr = std::shared_ptr<const Contexts>;

}  // namespace sluice::gateway::tls
