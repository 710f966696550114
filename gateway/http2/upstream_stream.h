// The upstream's side of an exchange over HTTP/2: one stream of a session that others share.
#pragma once

#include <string>

#include <boost/intrusive/list.hpp>

#include "gateway/http/stream.h"
#include "gateway/http2/body_queue.h"
#include "gateway/http2/head_text.h"
#include "gateway/http2/hooks.h"
#include "gateway/http2/output.h"
#include "gateway/refcounted.h"
#include "gateway/timer_wheel.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http2 {

class UpstreamSession;

class UpstreamStream final : public http::UpstreamStream {
 public:
  explicit UpstreamStream(Worker& worker);
  ~UpstreamStream() override;

  // --- for the session, from within nghttp2's callbacks: these only take notes ---
  // `upgrade`: an extended CONNECT, which waits for the peer's SETTINGS.
  void open(RefPtr<UpstreamSession> session, bool reused, bool upgrade,
            http::UpstreamEvents& events);
  std::int32_t id() const { return id_; }
  SteadyTime sent_at() const { return sent_at_; }
  void head_begins();
  void field(std::string_view name, std::string_view value) { incoming_->add(name, value); }
  void head_ended(bool end_stream);
  void received(std::string_view data);
  void input_ended();
  void reset_by_peer(std::uint32_t error);
  void settings_came();
  void not_sent() { not_sent_ = true; }  // the request; closed() follows
  void closed(std::uint32_t error);  // nghttp2 has forgotten the stream
  ssize_t read_output(std::size_t most, std::uint32_t* flags);
  void take_output(std::size_t bytes);

  // --- for the session, outside of callbacks ---
  void handle_events();
  void wake();
  void connected_now() {
    if (!waits_for_settings_) events_->on_upstream_connected();
  }
  void connect_failed(const ConnectFailure& failure) {
    events_->on_upstream_connect_failed(failure);
  }
  // The connection is gone; `malformed`: for what the peer sent, on this stream or another.
  void lost(bool malformed, std::string_view why = {});

  // --- for the exchange ---
  bool connected() const override;
  // A reset tells of this request, and that the connection was well.
  bool reused() const override { return reused_ && !reset_; }
  std::chrono::nanoseconds connect_time() const override;
  std::optional<http::BodyForm> begin(const http::RequestHead& head,
                                      const http1::RequestForwarding& options, bool coded) override;
  void add(std::string_view data) override { output_.add(out_, data); }
  void finish(std::string_view trailers) override { output_.finish(trailers); }
  Flush flush() override;
  bool empty() const override { return output_.done(); }
  void want_write() override;

  http::Piece next() override;
  ReadResult read(BorrowedPipe* past) override;
  void want_read() override {}  // events come by themselves
  std::string_view trailers() const override { return trailers_.text(); }
  void take_body(http::BodyForm form) override;
  std::string_view failure() const override { return failure_; }
  bool unprocessed() const override { return unprocessed_; }
  bool takes_no_upgrade() const override { return takes_no_upgrade_; }
  bool can_tunnel() const override { return false; }
  void open_tunnel() override {}
  std::optional<NetworkSample> sample_network() override;
  UpstreamConnectionPtr take_connection(std::string& early) override;
  void release(bool whole) override;

  StreamHook open_hook;
  StreamHook event_hook;
  StreamHook write_hook;

 private:
  http::Piece next_head();
  http::Piece fail(std::string_view why);
  http::Piece malformed(http::ParseError error, std::string_view why);
  void notify();
  bool broken() const { return reset_ || lost_; }
  http::Piece fail_broken();

  Worker& worker_;
  RefPtr<UpstreamSession> session_;
  http::UpstreamEvents* events_ = nullptr;
  std::int32_t id_ = 0;  // 0: not sent yet
  SteadyTime sent_at_{};
  bool to_head_ = false;
  bool reused_ = false;
  std::string path_;

  HeadText* incoming_ = nullptr;  // where the fields go that come now
  HeadText interim_;
  HeadText text_;
  HeadText trailers_;
  http1::ResponseContext context_;
  http1::ResponseParser parser_;
  BodyQueue body_;
  bool interim_ready_ = false;
  bool head_ready_ = false;
  bool head_has_body_ = false;
  bool head_given_ = false;
  bool input_ended_ = false;
  bool anything_came_ = false;
  bool news_ = false;  // since read() last looked
  bool reset_ = false;
  bool lost_ = false;
  bool malformed_ = false;  // by that: what came breaks the protocol
  bool peer_reset_ = false;
  bool unprocessed_ = false;
  bool not_sent_ = false;
  bool waits_for_settings_ = false;
  bool settled_now_ = false;
  bool takes_no_upgrade_ = false;
  bool closed_ = false;
  bool waiting_ = false;
  std::uint32_t error_ = 0;  // of HTTP/2 (RFC 9113 section 7)
  std::string_view failure_;
  Output output_;
};

}  // namespace sluice::gateway::http2
