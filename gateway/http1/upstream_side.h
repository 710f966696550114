// The wait for room to write on an upstream connection: it belongs to the connection, not to the
// exchange that uses it, so that one that is still under way outlives the exchange safely.
#pragma once

#include "gateway/upstream/connection.h"
#include "gateway/upstream/handler_memory.h"

namespace sluice::gateway::http1 {

class UpstreamUser : public ReadableHandler {
 public:
  virtual void on_upstream_writable() = 0;

 protected:
  ~UpstreamUser() = default;
};

class UpstreamSide final : public ConnectionAttachment {
 public:
  // The side of this connection; made at its first use.
  static UpstreamSide& of(UpstreamConnection& connection);

  void attach(UpstreamUser& user) { user_ = &user; }
  void detach() { user_ = nullptr; }

  void want_write(const UpstreamConnectionPtr& connection);

 private:
  UpstreamUser* user_ = nullptr;
  bool writing_ = false;
  HandlerMemory write_memory_;
};

}  // namespace sluice::gateway::http1
