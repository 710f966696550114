// The client's side of an exchange over HTTP/1.1: a request that is parsed and handed on in place,
// and an answer made of slices.
#pragma once

#include <string>

#include "gateway/http/exchange.h"
#include "gateway/http/stream.h"
#include "gateway/http1/body.h"
#include "gateway/http1/body_writer.h"
#include "gateway/http1/connection.h"
#include "gateway/http1/forward.h"

namespace sluice::gateway::http1 {

class ClientStream final : public http::ClientStream {
 public:
  explicit ClientStream(Worker& worker);
  ~ClientStream() override = default;

  // --- for the connection ---
  void begin(Connection& connection);
  void on_client_readable() { exchange_.on_client_readable(); }
  void on_client_writable() { exchange_.on_client_writable(); }
  void cancel() { exchange_.client_gone("cancelled"); }

  // --- for the exchange ---
  const Client& client() const override { return connection_->client(); }
  std::string_view peer_text() override { return connection_->peer_text(); }
  std::uint32_t number() const override { return connection_->requests(); }
  std::string_view protocol() const override { return "HTTP/1.1"; }

  http::ReadHead read_head(RequestHead& head) override;
  http::Piece next() override;
  ReadResult read(BorrowedPipe* past) override;
  void want_read() override { connection_->want_read(); }
  bool gives_coded() const override { return head_->body() == BodyKind::chunked; }
  std::string_view trailers() const override { return body_.trailers(); }
  void take_body(http::BodyForm form) override;
  bool can_rewind() const override { return !body_dropped_; }
  void hold_head_alone(RequestHead& head) override;
  ParseError failure() const override { return body_.error(); }
  void watch() override;
  bool still_there() override { return connection_->read() != ReadResult::failed; }
  bool half_closed() const override { return connection_->half_closed(); }

  bool interim(const ResponseHead& head) override;
  std::optional<http::BodyForm> begin(const ResponseHead& head, const http::AnswerEdits& edits,
                                      bool coded) override;
  void add(std::string_view data) override { writer_.add(out_, data); }
  void finish(std::string_view trailers) override { writer_.finish(out_, trailers); }
  Flush flush() override;
  void answer_ends() override;
  bool empty() const override { return out_.empty() && pipe_.empty(); }
  BorrowedPipe* pipe() override {
    return writer_.verbatim() && connection_->transport().plain() ? &pipe_ : nullptr;
  }
  void want_write() override { connection_->want_write(); }
  bool take_back() override;
  void answer(const http::OwnAnswer& answer) override;
  void close_after(bool linger) override;

  bool can_tunnel() const override { return true; }
  void open_tunnel() override;
  Client take_client(std::string& early) override;
  void ended(http::Ending ending) override;
  void taken() override;

 private:
  static constexpr std::size_t kBodyRoom = 8 * 1024;  // below this, room is made for more body

  bool may_keep() const;
  bool skip_body();  // true: it is here as a whole
  OutgoingHead outgoing_head();
  After after(http::Ending ending) const;

  Worker& worker_;
  Connection* connection_ = nullptr;
  const RequestHead* head_ = nullptr;  // once it is complete
  RequestParser parser_;
  BodyReader body_;
  std::size_t head_size_ = 0;  // of the connection's input; 0: not complete
  std::size_t body_at_ = 0;    // in the connection's input: where the body goes on
  bool body_dropped_ = false;  // some of it is sent and gone: no second try
  bool close_ = false;
  bool linger_ = false;
  bool ends_by_close_ = false;  // the client takes the connection's end for the answer's
  BodyWriter writer_;
  BulkMeter meter_;        // of the request's body
  BorrowedPipe pipe_;      // of the answer's
  HeadRoomPtr head_room_;  // of the answer's head, until it is sent
  std::string kept_;       // the request's head, once nothing else of it is held
  std::string own_;        // an answer of our own
  std::string interim_;    // an interim head, until it is sent; there is one at a time
  http::Exchange exchange_;
};

}  // namespace sluice::gateway::http1
