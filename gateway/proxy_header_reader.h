// `accept_proxy_protocol`: takes the header off a connection from a trusted proxy before anything
// else is done with it.
#pragma once

#include <string_view>

#include "gateway/refcounted.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"

namespace sluice::gateway {
class Worker;

class ProxyHeaderReader final : public Session,
                                public RefCounted<ProxyHeaderReader>,
                                private TransportUser {
 public:
  static void start(Worker& worker, Client client);

  ProxyHeaderReader(Worker& worker, Client client);

  void drain() override { abort(); }
  void abort() override;
  const Listener& listener() const override { return *listener_; }
  int fd() const override { return client_.transport->fd(); }

 private:
  Client* held() override { return &client_; }
  void look();
  void on_readable() override;
  void on_writable() override {}
  void on_timer();
  void refuse(std::string_view why);

  Worker& worker_;
  Client client_;
  RefPtr<Listener> listener_;
  SteadyTime deadline_;
  WheelTimer timer_ = WheelTimer::calling<&ProxyHeaderReader::on_timer>(this);
  RefPtr<ProxyHeaderReader> self_;  // while the connection is here
};

}  // namespace sluice::gateway
