// `protocol: auto`: what a client speaks, by its first bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "gateway/refcounted.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"

namespace sluice::gateway {

enum class Detected : std::uint8_t {
  need_more,  // could still be HTTP
  http,       // an HTTP/1 method and a space (RFC 9112 section 3)
  tls,        // a handshake record (RFC 8446 section 5.1)
  tcp,        // anything else
};
// Pure. `bytes`: the first ones of the connection, as many as are there.
Detected detect(std::string_view bytes);

// Waits for a client's first bytes without taking them off the socket. A client that is silent for
// `timeouts.detect` waits for the server to speak: tcp.
class Detection final : public Session, public RefCounted<Detection>, private TransportUser {
 public:
  static void start(Worker& worker, Client client);

  Detection(Worker& worker, Client client);

  void drain() override { abort(); }
  void abort() override;
  const Listener& listener() const override { return *listener_; }
  int fd() const override { return client_.transport->fd(); }

 private:
  Client* held() override { return &client_; }
  void look();
  void wait();
  void on_readable() override;
  void on_writable() override {}
  void on_timer();
  void decide(Detected what);

  Worker& worker_;
  Client client_;
  RefPtr<Listener> listener_;
  SteadyTime deadline_;
  WheelTimer timer_ = WheelTimer::calling<&Detection::on_timer>(this);
  RefPtr<Detection> self_;  // while the connection is here
};

}  // namespace sluice::gateway
