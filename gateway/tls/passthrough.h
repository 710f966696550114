// A client's TLS that is not ended here: the name in its ClientHello chooses the route, and every
// byte goes on as it came. Where the listener has a certificate authority, the same name says
// whether it is ended after all.
#pragma once

#include <string>

#include "gateway/refcounted.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"
#include "gateway/tls/client_hello.h"
#include "gateway/tls/failure.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::tls {

class Passthrough final : public Session, public RefCounted<Passthrough>, private TransportUser {
 public:
  static void start(Worker& worker, Client client);

  Passthrough(Worker& worker, Client client);

  void drain() override {}  // as for a handshake
  void abort() override;
  const Listener& listener() const override { return *listener_; }
  int fd() const override { return client_.transport->fd(); }

 private:
  Client* held() override { return &client_; }
  void on_readable() override;
  void on_writable() override {}
  void on_timer();
  bool take(std::string_view bytes);  // false: it has ended, one way or the other
  void route();
  void fail(Failure failure);
  void close();

  Worker& worker_;
  Client client_;
  RefPtr<Listener> listener_;
  ClientHelloReader hello_;
  std::string bytes_;  // all that was read
  WheelTimer timer_ = WheelTimer::calling<&Passthrough::on_timer>(this);
  RefPtr<Passthrough> self_;  // while the connection is here
};

}  // namespace sluice::gateway::tls
