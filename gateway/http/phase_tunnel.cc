// Tunnels after a switch of protocols (WebSocket). Where both sides have a connection for
// themselves, it leaves the exchange; where one of them is a stream of HTTP/2 (RFC 8441), the
// exchange goes on with bytes that have no end but the stream's.
#include <array>

#include <openssl/evp.h>

#include "gateway/http/exchange.h"
#include "gateway/tcp_session.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

constexpr std::string_view kKey = "sec-websocket-key";
constexpr std::string_view kAccept = "sec-websocket-accept";

void append_base64(std::span<const unsigned char> bytes, std::string& out) {
  std::array<unsigned char, 64> text{};
  const int size = EVP_EncodeBlock(text.data(), bytes.data(), static_cast<int>(bytes.size()));
  out.append(reinterpret_cast<const char*>(text.data()), static_cast<std::size_t>(size));
}

// RFC 6455 section 4.2.2.
void append_accept(std::string_view key, std::string& out) {
  std::string text(key);
  text.append("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  std::array<unsigned char, 20> digest{};
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha1(), nullptr);
  append_base64(digest, out);
}

}  // namespace

// RFC 8441 section 5: HTTP/2 has neither key nor accept. Towards HTTP/1.1 the key is ours.
void Exchange::edit_handshake(http1::RequestForwarding& options) {
  if (!http1::equals_ignoring_case(request_.upgrade(), "websocket")) return;
  http1::FieldTable& fields = request_.fields();
  const bool to_http2 = cluster_->config().protocol == policy::UpstreamProtocol::http2;
  if (to_http2) return fields.drop(kKey);
  if (client_->can_tunnel() || !fields.first(kKey).empty()) return;
  std::array<unsigned char, 16> random{};
  for (unsigned char& byte : random)
    byte = static_cast<unsigned char>(worker_.random());
  websocket_key_.clear();
  append_base64(random, websocket_key_);
  if (options.lines.data() != request_lines_.data()) request_lines_.assign(options.lines);
  request_lines_.append(kKey).append(": ").append(websocket_key_).append("\r\n");
  options.lines = request_lines_;
}

// Appends to the answer's lines, and takes from its fields, what the client's side wants.
void Exchange::edit_handshake_answer(ResponseHead& response) {
  const std::string_view key = request_.fields().first(kKey);
  if (!client_->can_tunnel()) return response.fields().drop(kAccept);
  if (key.empty() || !response.fields().first(kAccept).empty()) return;
  answer_lines_.append(kAccept).append(": ");
  append_accept(key, answer_lines_);
  answer_lines_.append("\r\n");
}

// An origin that does not know our key did not mean to switch.
bool Exchange::accepted_handshake(const ResponseHead& response) const {
  if (websocket_key_.empty()) return true;
  std::string expected;
  append_accept(websocket_key_, expected);
  return response.fields().first(kAccept) == expected;
}

// RFC 8441 section 5: to who asked by HTTP/2 any 2xx says that the stream is a WebSocket now.
bool Exchange::says_switched(int status) const {
  return !request_.upgrade().empty() && status >= 200 && status < 300 && !client_->can_tunnel();
}

void Exchange::tunnel() {
  deadline_.cancel();
  if (client_->can_tunnel() && upstream_->can_tunnel()) return leave_as_tunnel();
  tunnelling_ = true;
  request_done_ = false;
  answer_left_ = kNoLimit;
  client_->open_tunnel();
  upstream_->open_tunnel();
  if (pump_request()) relay();
}

// What the client has sent ends here; what the origin has to say may still come.
void Exchange::client_ended_tunnel() {
  upstream_->finish({});
  request_done_ = true;
}

void Exchange::leave_as_tunnel() {
  log();
  trace_try(Outcome::success, status_);
  worker_.metrics().upstream_request_ended(endpoint_slot_, status_);
  Tunnel tunnel{.client = {},
                .config = config_,
                .attempt = std::move(attempt_),
                .upstream = {},
                .upstream_index = upstream_index_,
                .from_client = {},
                .from_upstream = {}};
  tunnel.upstream = upstream_->take_connection(tunnel.from_upstream);
  upstream_.reset();
  tunnel.client = client_->take_client(tunnel.from_client);
  tunnel.client.ticket.hold(gate_.take_places());  // as long as the tunnel lasts
  gate_.release();
  TcpSession::start(worker_, std::move(tunnel));
  timer_.cancel();
  state_ = State::ended;
  config_.reset();
  std::exchange(client_, nullptr)->taken();
}

}  // namespace sluice::gateway::http
