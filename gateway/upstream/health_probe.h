// One active check of one endpoint: a TCP connection, TLS on it where the upstream speaks that, or
// an HTTP or gRPC request inside. Inside of
// HealthChecker.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "gateway/tls/client_context.h"
#include "policy/address.h"
#include "policy/config.h"

namespace sluice::gateway {

using ProbeExecutor = boost::asio::io_context::executor_type;
template <typename T>
using ProbeAwaitable = boost::asio::awaitable<T, ProbeExecutor>;
using ProbeTimer = boost::asio::basic_waitable_timer<
    std::chrono::steady_clock, boost::asio::wait_traits<std::chrono::steady_clock>, ProbeExecutor>;
inline constexpr boost::asio::as_tuple_t<boost::asio::use_awaitable_t<ProbeExecutor>> kProbeToken{};

struct ProbeResult {
  enum class Verdict : std::uint8_t { good, bad, unknown };  // unknown: this node could not try
  Verdict verdict = Verdict::unknown;
  std::string reason;  // "HTTP 200", "connection refused"
};

// Used again for each check. The object must outlive a run() that is under way.
class HealthProbe {
 public:
  // `protocol`: the upstream's, so that a check speaks what requests do; gRPC is always HTTP/2.
  // `proxy`: the header that it wants before anything else.
  HealthProbe(boost::asio::io_context& io, policy::SocketAddress address,
              const policy::HealthCheck& config, policy::UpstreamProtocol protocol,
              std::uint32_t mark, tls::ClientContextPtr tls = {}, std::string server_name = {},
              policy::ProxyProtocol proxy = policy::ProxyProtocol::none);

  // At most HealthCheck::timeout. Good: connected; for HTTP, a status from 200 to 399; for gRPC,
  // SERVING. `owner`
  // holds this object, and is kept by the clock. Then call drain().
  ProbeAwaitable<ProbeResult> run(std::shared_ptr<const void> owner);
  // Reads what is left of the answer (64 KiB at most, within the same timeout) and closes: an
  // origin that is cut off in its answer complains in its log.
  ProbeAwaitable<void> drain();
  // Ends either at once.
  void cancel();

 private:
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, ProbeExecutor>;

  struct Moved {
    boost::system::error_code error;
    std::size_t bytes = 0;
  };

  ProbeAwaitable<ProbeResult> connect();
  ProbeAwaitable<ProbeResult> introduce();
  ProbeAwaitable<ProbeResult> handshake();
  void settle_protocol();
  ProbeAwaitable<boost::system::error_code> wait_for_tls(int result);
  ProbeAwaitable<Moved> read_some(boost::asio::mutable_buffer room);
  ProbeAwaitable<Moved> write_all(std::string_view bytes_out);
  ProbeAwaitable<ProbeResult> exchange();
  ProbeAwaitable<ProbeResult> exchange_http2();
  std::string asked_name() const;
  ProbeResult failure(std::string_view step, const boost::system::error_code& error) const;
  void start_clock(std::shared_ptr<const void> owner, std::chrono::nanoseconds patience);

  const policy::SocketAddress address_;
  const std::chrono::nanoseconds timeout_;
  const std::uint32_t mark_;
  const policy::HealthCheck config_;
  const bool by_alpn_;  // under TLS the endpoint chooses
  bool http2_;
  const tls::ClientContextPtr tls_;  // null: none
  const std::string server_name_;
  const std::string introduction_;  // of the PROXY protocol; empty: none
  const std::string request_;  // of HTTP/1.1; empty: none
  tls::SslPtr ssl_;
  Socket socket_;
  ProbeTimer clock_;
  std::weak_ptr<const void> owner_;  // of run()
  bool timed_out_ = false;
  std::array<char, 4096> buffer_{};
};

}  // namespace sluice::gateway
