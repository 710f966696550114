#include "gateway/upstream/health_probe.h"

#include <algorithm>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <optional>
#include <string_view>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>

#include "gateway/proxy_protocol.h"
#include "gateway/tls/failure.h"
#include "gateway/upstream/connector.h"
#include "gateway/upstream/http2_check.h"

namespace sluice::gateway {
namespace {

using boost::system::error_code;
using Verdict = ProbeResult::Verdict;

constexpr std::size_t kStatusLine = 13;  // "HTTP/1.1 200" and the byte after it

std::string make_request(const policy::HealthCheck& config, bool http2, const std::string& name) {
  if (config.http_path.empty() || http2) return {};
  return "GET " + config.http_path + " HTTP/1.1\r\nHost: " + name +
         "\r\nUser-Agent: sluice-health\r\nAccept: */*\r\nConnection: close\r\n\r\n";
}

// The status of an HTTP/1 status line (RFC 9112, section 4), of which kStatusLine bytes suffice.
std::optional<int> parse_status(std::string_view line) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (line.size() < kStatusLine || !line.starts_with("HTTP/1.") || !digit(line[7]) ||
      line[8] != ' ' || (line[12] != ' ' && line[12] != '\r'))
    return std::nullopt;
  const std::string_view status = line.substr(9, 3);
  if (!std::ranges::all_of(status, digit)) return std::nullopt;
  return (status[0] - '0') * 100 + (status[1] - '0') * 10 + (status[2] - '0');
}

ProbeResult connect_failure(const ConnectFailure& failure) {
  return {blames_endpoint(failure.reason) ? Verdict::bad : Verdict::unknown, failure.to_string()};
}

}  // namespace

HealthProbe::HealthProbe(boost::asio::io_context& io, policy::SocketAddress address,
                         const policy::HealthCheck& config, policy::UpstreamProtocol protocol,
                         std::uint32_t mark, tls::ClientContextPtr tls, std::string server_name,
                         policy::ProxyProtocol proxy)
    : address_(address),
      timeout_(config.timeout),
      mark_(mark),
      config_(config),
      by_alpn_(protocol == policy::UpstreamProtocol::automatic && config.grpc.empty() &&
               !config.http_path.empty()),
      http2_(!config.grpc.empty() ||
             (protocol == policy::UpstreamProtocol::http2 && !config.http_path.empty())),
      tls_(std::move(tls)),
      server_name_(std::move(server_name)),
      introduction_(proxy == policy::ProxyProtocol::none ? std::string()
                                                         : make_own_proxy_header(proxy)),
      request_(make_request(config, http2_, asked_name())),
      socket_(io.get_executor()),
      clock_(io.get_executor()) {}

// Virtual hosts are told apart by it (RFC 9110 section 7.2).
std::string HealthProbe::asked_name() const {
  if (server_name_.empty()) return address_.to_string();
  const std::uint16_t usual = tls_ ? 443 : 80;
  return address_.port == usual ? server_name_
                                : server_name_ + ":" + std::to_string(address_.port);
}

void HealthProbe::cancel() {
  clock_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

// Closing the socket ends whatever waits for it.
void HealthProbe::start_clock(std::shared_ptr<const void> owner, std::chrono::nanoseconds patience) {
  owner_ = owner;
  timed_out_ = false;
  clock_.expires_after(patience);
  clock_.async_wait([this, owner = std::move(owner)](const error_code& error) {
    if (error) return;
    timed_out_ = true;
    error_code ignored;
    socket_.close(ignored);
  });
}

ProbeAwaitable<ProbeResult> HealthProbe::run(std::shared_ptr<const void> owner) {
  start_clock(std::move(owner), timeout_);
  ProbeResult result = co_await connect();
  if (result.verdict == Verdict::good && !introduction_.empty()) result = co_await introduce();
  if (result.verdict == Verdict::good && tls_) result = co_await handshake();
  if (result.verdict == Verdict::good && http2_) {
    result = co_await exchange_http2();
  } else if (result.verdict == Verdict::good && !request_.empty()) {
    result = co_await exchange();
  }
  co_return result;
}

ProbeAwaitable<ProbeResult> HealthProbe::connect() {
  const ConnectOptions options{.destination = address_, .mark = mark_, .source = std::nullopt};
  const auto opened = open_connection(options);
  if (!opened) co_return connect_failure(opened.error());
  using boost::asio::ip::tcp;
  error_code error;
  socket_.assign(address_.address.is_v4() ? tcp::v4() : tcp::v6(), opened->fd, error);
  if (error) {
    ::close(opened->fd);
    co_return ProbeResult{Verdict::unknown, error.message()};
  }
  if (!opened->connected) {
    const auto [waited] = co_await socket_.async_wait(Socket::wait_write, kProbeToken);
    if (waited) co_return failure("connect", waited);
    if (const auto failed = connection_result(socket_.native_handle()))
      co_return connect_failure(*failed);
  }
  co_return ProbeResult{Verdict::good, "connected"};
}

// Before TLS, as for requests.
ProbeAwaitable<ProbeResult> HealthProbe::introduce() {
  const auto [error, written] = co_await write_all(introduction_);
  if (error) co_return failure("PROXY header", error);
  co_return ProbeResult{Verdict::good, "connected"};
}

ProbeAwaitable<ProbeResult> HealthProbe::exchange() {
  const auto [write_error, written] = co_await write_all(request_);
  if (write_error) co_return failure("request", write_error);
  std::size_t length = 0;
  while (length < kStatusLine) {
    const auto room = boost::asio::buffer(buffer_.data() + length, buffer_.size() - length);
    const auto [error, bytes] = co_await read_some(room);
    if (error) co_return failure("answer", error);
    length += bytes;
  }
  const auto status = parse_status(std::string_view(buffer_.data(), length));
  if (!status) co_return ProbeResult{Verdict::bad, "not an HTTP/1 answer"};
  const bool good = *status >= 200 && *status < 400;
  co_return ProbeResult{good ? Verdict::good : Verdict::bad, "HTTP " + std::to_string(*status)};
}

ProbeAwaitable<ProbeResult> HealthProbe::exchange_http2() {
  Http2Check check(config_, ssl_ ? "https" : "http", asked_name());
  while (true) {
    const std::string out = check.take_output();
    if (!out.empty()) {
      const auto [error, written] = co_await write_all(out);
      if (error && !check.result()) co_return failure("request", error);
    }
    if (check.result()) break;
    const auto [error, bytes] = co_await read_some(boost::asio::buffer(buffer_));
    if (error) co_return failure("answer", error);
    if (!check.feed({buffer_.data(), bytes}) && !check.result())
      co_return ProbeResult{Verdict::bad, "not an HTTP/2 answer"};
  }
  co_return ProbeResult{check.result()->good ? Verdict::good : Verdict::bad,
                        check.result()->reason};
}

// The verdict is there; what an origin that keeps its connections open has yet to say is not waited for.
ProbeAwaitable<void> HealthProbe::drain() {
  constexpr std::size_t kMost = 64 * 1024;
  constexpr std::chrono::nanoseconds kPatience = std::chrono::milliseconds(50);
  start_clock(owner_.lock(), std::min(timeout_, kPatience));
  error_code error;
  for (std::size_t read = 0;
       !http2_ && !request_.empty() && socket_.is_open() && !error && read < kMost;) {
    const auto [failed, bytes] = co_await read_some(boost::asio::buffer(buffer_));
    error = failed;
    read += bytes;
  }
  cancel();
  ssl_.reset();
}

// --- TLS

ProbeAwaitable<ProbeResult> HealthProbe::handshake() {
  ssl_ = tls_->connect(server_name_, address_.address, tls::AlpnOffer::any, nullptr);
  if (!ssl_ || SSL_set_fd(ssl_.get(), socket_.native_handle()) != 1)
    co_return ProbeResult{Verdict::unknown, "out of memory"};
  while (true) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) {
      settle_protocol();
      co_return ProbeResult{Verdict::good, "connected"};
    }
    const error_code error = co_await wait_for_tls(result);
    if (!error) continue;
    if (timed_out_) co_return failure("TLS handshake", error);
    const long verified = SSL_get_verify_result(ssl_.get());
    co_return ProbeResult{
        Verdict::bad,
        "TLS handshake failed (" +
            std::string(verified != X509_V_OK ? X509_verify_cert_error_string(verified)
                                              : tls::name(tls::take_failure())) +
            ")"};
  }
}

// As requests do: `auto` is what the endpoint chooses.
void HealthProbe::settle_protocol() {
  if (!by_alpn_) return;
  const unsigned char* name = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  http2_ = std::string_view(reinterpret_cast<const char*>(name), size) == "h2";
}

// Until what OpenSSL wants is there; an error when it wants nothing.
ProbeAwaitable<error_code> HealthProbe::wait_for_tls(int result) {
  const int wanted = SSL_get_error(ssl_.get(), result);
  if (wanted == SSL_ERROR_WANT_READ || wanted == SSL_ERROR_WANT_WRITE) {
    const auto direction = wanted == SSL_ERROR_WANT_READ ? Socket::wait_read : Socket::wait_write;
    const auto [error] = co_await socket_.async_wait(direction, kProbeToken);
    co_return error;
  }
  if (wanted == SSL_ERROR_ZERO_RETURN) co_return boost::asio::error::eof;
  co_return boost::asio::error::connection_aborted;
}

ProbeAwaitable<HealthProbe::Moved> HealthProbe::read_some(boost::asio::mutable_buffer room) {
  if (!ssl_) {
    const auto [error, bytes] = co_await socket_.async_read_some(room, kProbeToken);
    co_return Moved{error, bytes};
  }
  while (true) {
    ERR_clear_error();
    const int result = SSL_read(ssl_.get(), room.data(), static_cast<int>(room.size()));
    if (result > 0) co_return Moved{{}, static_cast<std::size_t>(result)};
    const error_code error = co_await wait_for_tls(result);
    if (error) co_return Moved{.error = error};
  }
}

ProbeAwaitable<HealthProbe::Moved> HealthProbe::write_all(std::string_view bytes_out) {
  if (!ssl_) {
    const auto [error, bytes] =
        co_await boost::asio::async_write(socket_, boost::asio::buffer(bytes_out), kProbeToken);
    co_return Moved{error, bytes};
  }
  while (true) {
    ERR_clear_error();
    const int result = SSL_write(ssl_.get(), bytes_out.data(), static_cast<int>(bytes_out.size()));
    if (result > 0) co_return Moved{{}, bytes_out.size()};
    const error_code error = co_await wait_for_tls(result);
    if (error) co_return Moved{.error = error};
  }
}

ProbeResult HealthProbe::failure(std::string_view step, const error_code& error) const {
  std::string reason(step);
  reason += timed_out_ ? ": timeout" : ": " + error.message();
  return {Verdict::bad, std::move(reason)};
}

}  // namespace sluice::gateway
