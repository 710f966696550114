// A plain TCP connection from accept to close: route, pick, connect, relay. Also carries the
// tunnels that Upgrade makes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "gateway/access_log.h"
#include "gateway/authority_names.h"
#include "gateway/l4_relay.h"
#include "gateway/limit_gate.h"
#include "gateway/session.h"
#include "gateway/upstream/upstream_worker.h"
#include "gateway/worker_config.h"

namespace sluice::gateway {

// An upgraded connection, as http1 hands it over.
struct Tunnel {
  Client client;
  RefPtr<WorkerConfig> config;
  Attempt attempt;
  UpstreamConnectionPtr upstream;
  std::uint32_t upstream_index = 0;  // in Config::upstreams
  std::string from_client;           // bytes that were read already, for the other side
  std::string from_upstream;
};

class TcpSession final : public Session,
                         public RefCounted<TcpSession>,
                         public ConnectHandler,
                         private LimitGateUser,
                         private AuthorityUser,
                         private WaitUser {
 public:
  // `name`: in normal form, what the client has asked for by TLS; "": nothing. `early`: bytes that
  // were read already.
  static void start(Worker& worker, Client client, std::string name = {}, std::string early = {});
  static void start(Worker& worker, Tunnel tunnel);

  TcpSession(Worker& worker, Client client, RefPtr<WorkerConfig> config);

  void drain() override;  // relays go on: only the deadline ends them
  void abort() override;
  const Listener& listener() const override { return *listener_; }
  int fd() const override { return client_.transport ? client_.transport->fd() : relayed_fd_; }

  void on_connected(UpstreamConnection& connection) override;
  void on_connect_failed(UpstreamConnection& connection, const ConnectFailure& failure) override;
  std::optional<ProxiedClient> proxied_client() const override;
  tls::AlpnOffer alpn_offer() const override { return tls::AlpnOffer::none; }

 private:
  Client* held() override { return &client_; }
  static constexpr std::size_t kMaxTries = 8;

  void route();
  bool authority_holds(bool by_name);
  bool authority_judged(policy::AuthorityVerdict verdict);
  void on_authority(policy::AuthorityVerdict verdict) override;
  void routed();
  void limits(policy::RequestView view);
  void use_upstream(std::uint32_t index);
  void go_on_to(std::uint32_t upstream);
  void on_limits_passed() override;
  void on_limits_refused() override;
  PickRequest pick_request() const;
  void pick();
  void connect();
  void connect_failed(const ConnectFailure& failure);
  void nobody_picked(PickError error);
  void on_place() override;
  void on_queue_timeout() override;
  bool try_again(const Endpoint& failed);
  void relay(std::string from_client, std::string from_upstream);
  void settle(const RelayResult& result);
  void end_attempt(Outcome outcome);
  void end_retries();
  void end(std::string_view reason);
  void log(AccessRecord::Kind kind, std::string_view reason, const RelayBytes& bytes);

  Worker& worker_;
  Client client_;
  int relayed_fd_ = -1;  // the relay's, which has the transport
  RefPtr<Listener> listener_;
  RefPtr<WorkerConfig> config_;
  std::optional<std::uint32_t> route_;  // index in Config::routes
  LimitGate gate_;
  std::uint32_t upstream_index_ = 0;
  const Cluster* cluster_ = nullptr;
  Attempt attempt_;
  EndpointSlot endpoint_slot_{};
  UpstreamConnectionPtr upstream_;
  std::shared_ptr<L4Relay> relay_;
  std::array<const Endpoint*, kMaxTries> tried_{};
  std::uint32_t tries_ = 0;
  bool retrying_ = false;
  Waiter waiter_{*this};
  AuthorityWaiter authority_waiter_{*this};
  std::string remark_;  // of the log line that opens: what an audit has found, or a ban has done
  bool tunnel_ = false;  // its request was counted by http1
  std::optional<policy::SocketAddress> destination_;
  std::string route_name_;
  std::string name_;
  std::string early_;
  policy::SocketAddress endpoint_;
  SteadyTime begun_;
  RefPtr<TcpSession> self_;  // while open
};

}  // namespace sluice::gateway
