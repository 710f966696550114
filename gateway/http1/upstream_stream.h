// The upstream's side of an exchange over HTTP/1.1: it has a connection for itself as long as it
// lives.
#pragma once

#include "gateway/buffer.h"
#include "gateway/http/stream.h"
#include "gateway/http1/body.h"
#include "gateway/http1/body_writer.h"
#include "gateway/upstream/upstream_worker.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http1 {

class UpstreamStream final : public http::UpstreamStream,
                             private ConnectHandler,
                             private UpstreamUser {
 public:
  explicit UpstreamStream(Worker& worker);
  ~UpstreamStream() override = default;

  // On a pooled connection unless `fresh`, else on a new one.
  static std::expected<http::UpstreamStreamPtr, ConnectFailure> open(
      Worker& worker, const Attempt& attempt, const policy::IpAddress& client, bool fresh,
      bool upgrade, http::UpstreamEvents& events);

  bool connected() const override {
    return connection_->state() == UpstreamConnection::State::in_use;
  }
  bool reused() const override { return connection_->reused(); }
  std::chrono::nanoseconds connect_time() const override { return connection_->connect_time(); }

  std::optional<http::BodyForm> begin(const RequestHead& head, const RequestForwarding& options,
                                      bool coded) override;
  void add(std::string_view data) override { writer_.add(out_, data); }
  void finish(std::string_view trailers) override {
    writer_.finish(out_, trailers);
    half_close_ = tunnelling_;
  }
  Flush flush() override;
  bool drained() const override { return connection_->transport().drained(); }
  bool empty() const override { return out_.empty() && pipe_.empty(); }
  BorrowedPipe* pipe() override {
    return writer_.verbatim() && connection_->transport().plain() ? &pipe_ : nullptr;
  }
  void want_write() override { connection_->want_write(); }

  http::Piece next() override;
  ReadResult read(BorrowedPipe* past) override;
  void want_read() override { connection_->want_read(); }
  void release_buffer() override;
  bool gives_coded() const override { return response_.body() == BodyKind::chunked; }
  std::string_view trailers() const override { return body_.trailers(); }
  void take_body(http::BodyForm form) override;
  std::string_view failure() const override { return failure_; }

  bool can_tunnel() const override { return true; }
  void open_tunnel() override;
  std::optional<NetworkSample> sample_network() override { return connection_->sample_network(); }
  UpstreamConnectionPtr take_connection(std::string& early) override;
  void release(bool whole) override;

 private:
  enum class End : std::uint8_t { none, closed, broken, full };

  void on_connected(UpstreamConnection& connection) override;
  void on_connect_failed(UpstreamConnection& connection, const ConnectFailure& failure) override;
  tls::AlpnOffer alpn_offer() const override { return alpn_; }
  std::optional<ProxiedClient> proxied_client() const override { return events_->proxied_client(); }
  void on_upstream_readable() override;
  void on_upstream_writable() override;

  std::string_view received() const {
    return {buffer_ ? buffer_->bytes + begin_ : nullptr, end_ - begin_};
  }
  http::Piece next_head();
  http::Piece next_at_end();
  http::Piece fail(std::string_view why);
  http::Piece malformed(ParseError error);
  void make_room();
  ReadResult ended(End how, ReadResult result);
  void reset();

  Worker& worker_;
  http::UpstreamEvents* events_ = nullptr;
  UpstreamConnectionPtr connection_;
  tls::AlpnOffer alpn_ = tls::AlpnOffer::any;
  BodyWriter writer_;
  BorrowedPipe pipe_;      // of the request's body
  HeadRoomPtr head_room_;  // of the request's head, until it is sent

  ResponseContext context_;
  ResponseParser parser_;
  BodyReader body_;
  BufferPtr buffer_;  // what came; none while nothing is there
  BulkMeter meter_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool have_head_ = false;  // the final one
  bool send_broken_ = false;
  bool tunnelling_ = false;
  bool half_close_ = false;  // once all is sent
  End ended_ = End::none;
  std::string_view failure_;
};

}  // namespace sluice::gateway::http1
