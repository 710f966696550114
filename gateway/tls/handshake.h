// Phase tls: a client's handshake, between accept and the protocol inside.
#pragma once

#include <string>

#include "gateway/refcounted.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"
#include "gateway/tls/server_context.h"
#include "gateway/tls/stream.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::tls {

class Handshake final : public Session, public RefCounted<Handshake>, private TransportUser {
 public:
  // The listener has `tls`. `early`: bytes that were read already.
  static void start(Worker& worker, Client client, std::string early = {});

  Handshake(Worker& worker, Client client);

  void drain() override {}  // a handshake is short, and its time bounded; the request still counts
  void abort() override;
  const Listener& listener() const override { return *listener_; }
  int fd() const override { return client_.transport->fd(); }

 private:
  Client* held() override { return &client_; }
  void begin(std::string early);
  void proceed();
  void established();
  void on_readable() override;
  void on_writable() override;
  void on_timer();
  void fail(Failure failure);
  void log_refused(Failure failure);
  void say_that_this_is_https();
  void linger();
  void drain_input();
  void close();

  Worker& worker_;
  Client client_;
  RefPtr<Listener> listener_;
  ServerContextPtr context_;  // a reload may bring another one; OpenSSL calls back into this one
  WheelTimer timer_ = WheelTimer::calling<&Handshake::on_timer>(this);
  bool lingering_ = false;
  std::size_t unread_left_ = 0;  // that are taken from a client that was refused
  RefPtr<Handshake> self_;  // while the connection is here
};

}  // namespace sluice::gateway::tls
