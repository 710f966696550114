// A connection to an endpoint, from connect to close, in use or pooled.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/intrusive/list_hook.hpp>

#include "gateway/metrics_counters.h"
#include "gateway/refcounted.h"
#include "gateway/timer_wheel.h"
#include "gateway/tls/client_context.h"
#include "gateway/transport.h"
#include "gateway/upstream/connector.h"
#include "gateway/upstream/endpoint.h"

namespace sluice::gateway {

class EndpointPool;
class UpstreamConnection;
using UpstreamConnectionPtr = RefPtr<UpstreamConnection>;

// A client, and where it wanted to go.
struct ProxiedClient {
  policy::SocketAddress source;
  policy::SocketAddress destination;
};

// Who waits for a connection; called on the worker's thread, once, never from within connect().
class ConnectHandler {
 public:
  virtual void on_connected(UpstreamConnection& connection) = 0;
  virtual void on_connect_failed(UpstreamConnection& connection, const ConnectFailure& failure) = 0;
  // Whom a PROXY protocol header can name; none: nobody.
  virtual std::optional<ProxiedClient> proxied_client() const { return std::nullopt; }
  // What TLS offers to the endpoint.
  virtual tls::AlpnOffer alpn_offer() const { return tls::AlpnOffer::any; }

 protected:
  virtual ~ConnectHandler() = default;
};

// What is inside of TLS, as far as ALPN has said so.
enum class Inside : std::uint8_t { unsaid, http1, http2 };

// Who uses a connection at the moment.
class UpstreamUser {
 public:
  virtual void on_upstream_readable() = 0;  // or ended, or broken
  virtual void on_upstream_writable() = 0;
  // Of a connection at rest: others want its place. It is closed after the call.
  virtual void on_place_wanted() {}

 protected:
  ~UpstreamUser() = default;
};

// What the connection's user wants to find again at the next request on it (a parser, a buffer).
class ConnectionAttachment {
 public:
  virtual ~ConnectionAttachment() = default;
};

// Its worker's thread only. Closed with its last reference.
class UpstreamConnection final : public RefCounted<UpstreamConnection>, private TransportUser {
 public:
  enum class State : std::uint8_t { closed, connecting, in_use, idle };

  explicit UpstreamConnection(TimerWheel& wheel);
  ~UpstreamConnection();

  State state() const { return state_; }
  Transport& transport() { return *transport_; }
  Endpoint& endpoint() const;
  std::uint64_t requests() const {
    return requests_;
  }  // how often it was taken, this time included
  bool reused() const {
    return requests_ > 1;
  }  // a failure before the first byte may be the origin's idle close
  std::chrono::nanoseconds connect_time() const { return connect_time_; }
  // What the kernel measured (TCP_INFO), for a request that is over: at the connection's first and
  // each 16th after it, since the question costs a system call.
  std::optional<NetworkSample> sample_network();

  Inside inside() const { return inside_; }
  // What its TLS was made with; null: plain.
  const tls::ClientContextPtr& tls() const { return tls_; }

  std::unique_ptr<ConnectionAttachment>& attachment() { return attachment_; }

  // Who is called after want_read() and want_write(), each once; spurious calls are possible. The
  // wait that a pooled connection is under goes on for its next user. Null: nobody is called.
  void set_user(UpstreamUser* user) { user_ = user; }
  void want_read() { transport_->want_read(); }
  void want_write() { transport_->want_write(); }

  // A user that keeps it for the next request (a session of HTTP/2): from rest() to resume() nothing
  // is under way on it, so that it makes room where places are short, as pooled ones do.
  void rest();
  void resume();  // harmless when it is not at rest

  // For a user that takes the socket away (a tunnel): the connection keeps being counted until
  // close() or the last reference, so hold this object as long as the tunnel lives.
  TransportPtr take_transport();

  // Closes; while connecting: gives up, and the handler is not called. Harmless when closed.
  void close();
  // The same, with a reset instead of an orderly end.
  void reset();

  // Called by the last RefPtr.
  void recycle();

  // For UpstreamWorker.
  EndpointPool& pool() const { return *pool_; }
  // One of the cluster's idle ones gives its place up.
  void make_room();
  // Its lists of idle connections: of the endpoint (pooled ones), and of the whole cluster by age
  // (also those at rest).
  boost::intrusive::list_member_hook<> pool_hook;
  boost::intrusive::list_member_hook<> age_hook;

 private:
  friend class EndpointPool;

  void on_timer();
  void end(bool with_reset);
  void on_readable() override;
  void on_writable() override;
  void connect_ended();
  void introduce();
  void begin_tls(tls::AlpnOffer offer);
  void continue_tls();
  void finish_connect();
  void idle_readable();
  void fail_connect(const ConnectFailure& failure);
  void established();
  void leave_pool();

  TransportPtr transport_;  // none before connect() and after close()
  TimerWheel& wheel_;
  WheelTimer timer_;  // the connect timeout, then the idle timeout
  RefPtr<EndpointPool> pool_;
  RefPtr<UpstreamConnection> kept_;  // itself, while idle: nobody else holds it
  ConnectHandler* handler_ = nullptr;
  UpstreamUser* user_ = nullptr;
  std::unique_ptr<ConnectionAttachment> attachment_;
  tls::ClientContextPtr tls_;
  RefPtr<tls::SessionSlot> tls_sessions_;  // TLS puts what it gets there
  std::string introduction_;  // a PROXY protocol header; then it is of use to one client alone
  Inside inside_ = Inside::unsaid;
  bool handshaking_ = false;
  std::uint64_t requests_ = 0;
  std::uint32_t samples_asked_ = 0;
  std::uint32_t retransmits_seen_ = 0;
  std::chrono::steady_clock::time_point began_{};
  std::chrono::nanoseconds connect_time_{};
  State state_ = State::closed;
  bool counted_ = false;  // holds a place below the connection limit
};

}  // namespace sluice::gateway
