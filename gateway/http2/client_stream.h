// The client's side of an exchange over HTTP/2: one stream. What came is kept until the exchange
// has passed it on, and only then is the window given back; what goes out stays where it is until
// the connection has room for its frames.
#pragma once

#include <string>

#include "gateway/http/exchange.h"
#include "gateway/http/stream.h"
#include "gateway/http2/body_queue.h"
#include "gateway/http2/head_text.h"
#include "gateway/http2/hooks.h"
#include "gateway/http2/output.h"

namespace sluice::gateway::http2 {

class Connection;

class ClientStream final : public http::ClientStream {
 public:
  explicit ClientStream(Worker& worker);
  ~ClientStream() override = default;

  // --- for the connection, from within nghttp2's callbacks: these only take notes ---
  void open(Connection& connection, std::int32_t id, std::uint32_t number);
  std::int32_t id() const { return id_; }
  void trailers_begin() { text_of_trailers_.reset_for_trailers(); }
  void field(std::string_view name, std::string_view value);
  std::size_t field_bytes() const;
  void head_ended(bool end_stream);
  void received(std::string_view data);
  void input_ended();
  void reset_by_client() { client_reset_ = true; }
  void closed(std::uint32_t error);        // nghttp2 has forgotten the stream
  bool broken() const { return broken_; }  // … and had reset it, for what it got
  // Gives a piece of what waits to the codec.
  ssize_t read_output(std::size_t most, std::uint32_t* flags);
  void take_output(std::size_t bytes);

  // --- for the connection, outside of callbacks ---
  void handle_events();
  void wake();  // room may have come
  void cancel(std::string_view reason) { begun_ ? exchange_.client_gone(reason) : drop(); }

  // --- for the exchange ---
  const Client& client() const override;
  std::string_view peer_text() override;
  std::uint32_t number() const override { return number_; }
  std::string_view protocol() const override { return "HTTP/2"; }

  http::ReadHead read_head(http::RequestHead& head) override;
  http::Piece next() override;
  ReadResult read(BorrowedPipe* past) override;
  void want_read() override {}  // events come by themselves
  std::string_view trailers() const override { return text_of_trailers_.text(); }
  void take_body(http::BodyForm form) override;
  bool can_rewind() const override { return !body_.dropped(); }
  http::ParseError failure() const override { return http::ParseError::bad_trailer; }
  void watch() override {}
  bool still_there() override { return true; }

  bool interim(const http::ResponseHead& head) override;
  std::optional<http::BodyForm> begin(const http::ResponseHead& head,
                                      const http::AnswerEdits& edits, bool coded) override;
  void add(std::string_view data) override;
  void finish(std::string_view trailers) override;
  Flush flush() override;
  bool empty() const override { return output_.done() && !head_due_; }
  void want_write() override;
  bool take_back() override { return false; }  // nghttp2 has the head
  void answer(const http::OwnAnswer& answer) override;
  void close_after(bool linger) override;

  bool can_tunnel() const override { return false; }
  void open_tunnel() override {}  // DATA frames are its bytes (RFC 8441 section 5)
  Client take_client(std::string& early) override;
  void ended(http::Ending ending) override;
  void taken() override {}

  StreamHook open_hook;   // of the connection's streams
  StreamHook event_hook;  // has something to tell
  StreamHook write_hook;  // waits for room

 private:
  void notify();
  void begin_exchange();
  void drop();  // no exchange has begun
  bool submit(bool has_body);

  Connection* connection_ = nullptr;
  std::int32_t id_ = 0;
  std::uint32_t number_ = 0;

  HeadText text_;
  HeadText text_of_trailers_;
  http1::RequestParser parser_;
  http::Method method_ = http::Method::get;
  BodyQueue body_;
  bool has_body_ = false;
  bool input_ended_ = false;
  bool head_ready_ = false;  // events, until they are handled
  bool data_ready_ = false;
  bool reset_ = false;
  bool client_reset_ = false;
  bool broken_ = false;
  bool begun_ = false;     // the exchange
  bool closed_ = false;    // nghttp2 knows the stream no more
  bool waiting_ = false;   // the exchange wants to hear of room
  bool head_due_ = false;  // given to nghttp2, which was not asked for frames since

  Output output_;
  std::string own_;  // the body of an answer of our own

  http::Exchange exchange_;
};

}  // namespace sluice::gateway::http2
