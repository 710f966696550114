// The two sides of an exchange, whatever protocol each of them speaks: the client's stream gives a
// request and takes an answer, the upstream's stream the other way round.
//
// A side hands out its message as pieces that stay where they are until read() is called, and takes
// the other's as slices that it does not own; the exchange calls read() only when the other side's
// outbox is empty. That is the back-pressure, and why nothing is copied between two sides of
// HTTP/1.1. Heads have one form (http1/head.h): what came as HTTP/2 is written down as HTTP/1.1
// would say it and read by the same parser, so that whatever that refuses never gets further.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/borrowed_pipe.h"
#include "gateway/http1/forward.h"
#include "gateway/http1/head.h"
#include "gateway/outbox.h"
#include "gateway/session.h"
#include "gateway/transport.h"
#include "gateway/upstream/connection.h"

namespace sluice::gateway::http {

using http1::BodyKind;
using http1::ExtraField;
using http1::Method;
using http1::ParseError;
using http1::RequestHead;
using http1::ResponseHead;

// A piece of a message.
enum class Part : std::uint8_t {
  none,    // nothing more is here: read()
  head,    // of an answer, interim or final; not from clients
  data,    // of the body
  end,     // of the message; trailers() are known
  failed,  // the message is broken: failure()
};

struct Piece {
  Part part = Part::none;
  std::string_view data = {};
};

// How the body's bytes are handed over.
enum class BodyForm : std::uint8_t {
  payload,
  coded,  // in the chunked coding that they came in: only from HTTP/1.1 to HTTP/1.1
};

class Stream {
 public:
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // --- what comes from this side ---
  virtual Piece next() = 0;  // never any I/O
  // Lets go of what next() has given, and looks for more. `eof` and `failed` come only while
  // nothing of the message has: later, next() says `failed`. `past`: the other side's pipe(); a
  // large body may go there, and next() does not see it.
  virtual ReadResult read(BorrowedPipe* past) = 0;
  virtual void want_read() = 0;
  // The last read left nothing, and want_read() tells of what comes: another read would be in vain.
  virtual bool drained() const { return false; }
  // Field lines with their CRLF, checked; "" if there are none, or if the body is `coded`.
  virtual std::string_view trailers() const { return {}; }
  virtual bool gives_coded() const { return false; }
  // From here on both ways are bytes without a frame of the message's; the end is the stream's.
  virtual void open_tunnel() = 0;
  // How the body is to be handed over; before the first piece of it.
  virtual void take_body(BodyForm form) = 0;

  // --- what goes to this side ---
  virtual bool empty() const { return out_.empty(); }
  bool has_room() const { return out_.room() > kSliceReserve; }
  virtual void add(std::string_view data) = 0;
  virtual void finish(std::string_view trailers) = 0;
  virtual Flush flush() = 0;
  virtual void want_write() = 0;
  // Where bytes of the body as they are can go without being copied; flush() sends them. Only while
  // empty(). Null: nowhere.
  virtual BorrowedPipe* pipe() { return nullptr; }

  std::uint64_t bytes_in() const {
    return bytes_in_;
  }  // from this side, as far as they are counted
  std::uint64_t bytes_out() const { return bytes_out_; }

 protected:
  static constexpr std::size_t kSliceReserve = 4;  // of the outbox: a chunk and its frame

  Stream() = default;
  virtual ~Stream() = default;

  Outbox out_;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
};

// An answer of our own.
struct OwnAnswer {
  int status = 0;
  std::span<const ExtraField> fields = {};  // besides Date and what frames the body
  std::string_view lines = {};              // whole field lines with CRLF, besides those; copied
  std::string_view body = {};               // left out for HEAD, 204 and 304; copied
  bool call =
      false;  // of gRPC: over HTTP/2 the head is its trailers, in which a length has no place
};

// What of the origin's head goes to the client changed. Bytes live until the head is sent.
struct AnswerEdits {
  std::string_view lines = {};  // whole field lines with CRLF, behind the origin's
  http1::KnownFieldSet remove{};
  bool recoded = false;  // the body is another one than the head says, of unknown length
};

enum class Ending : std::uint8_t {
  complete,   // the answer is with the client
  gone,       // the client cannot get one
  cut_short,  // the answer has begun and cannot be finished: it must not look whole
};

struct ReadHead {
  enum class State : std::uint8_t { complete, need_more, failed, gone };
  State state = State::need_more;
  ParseError error = ParseError::none;  // with `failed`
};

class ClientStream : public Stream {
 public:
  virtual const Client& client() const = 0;
  virtual std::string_view peer_text() = 0;       // the address without the port
  virtual std::uint32_t number() const = 0;       // of the request on its connection, from 1
  virtual std::string_view protocol() const = 0;  // "HTTP/1.1", "HTTP/2": a literal

  // --- the request ---
  // `head` is the same object until it is complete, and lives as long as this stream.
  virtual ReadHead read_head(RequestHead& head) = 0;
  // take_body() can begin the body once more from its first byte.
  virtual bool can_rewind() const = 0;
  virtual ParseError failure() const = 0;
  // No other try will be made, and what was received of the request may go, but its head. Its bytes
  // may move; `head` is told.
  virtual void hold_head_alone(RequestHead& /*head*/) {}
  // Waits for a sign that the client has gone, while nothing is wanted of it; asks for it.
  virtual void watch() = 0;
  virtual bool still_there() = 0;
  // It sends no more on this connection, and may still be reading.
  virtual bool half_closed() const { return false; }

  // --- the answer ---
  virtual bool interim(const ResponseHead& head) = 0;  // false: too large
  // `coded`: the upstream can hand the body over in its coding. Returns how it has to.
  virtual std::optional<BodyForm> begin(const ResponseHead& head, const AnswerEdits& edits,
                                        bool coded) = 0;
  // Forgets the answer that has begun, if nothing of it has gone out; then answer() may be called.
  virtual bool take_back() = 0;
  virtual void answer(const OwnAnswer& answer) = 0;
  // What is here of it and not sent yet is its end.
  virtual void answer_ends() {}
  // No further request is taken from this client's connection. `linger`: it may still be sending.
  virtual void close_after(bool linger) = 0;

  // The connection itself, for a tunnel, and what was read from it already. None: this protocol
  // has no tunnels that take the connection.
  virtual bool can_tunnel() const = 0;
  virtual Client take_client(std::string& early) = 0;

  // The last call; the stream and the exchange in it are gone when it returns.
  virtual void ended(Ending ending) = 0;
  virtual void taken() = 0;  // the same, after take_client()
};

// Who uses an upstream's stream. Called on the worker's thread, never from within a call.
class UpstreamEvents {
 public:
  // As ConnectHandler's.
  virtual std::optional<ProxiedClient> proxied_client() const { return std::nullopt; }
  virtual void on_upstream_connected() = 0;
  virtual void on_upstream_connect_failed(const ConnectFailure& failure) = 0;
  virtual void on_upstream_readable() = 0;
  virtual void on_upstream_writable() = 0;

 protected:
  ~UpstreamEvents() = default;
};

class UpstreamStream : public Stream {
 public:
  virtual bool connected() const = 0;  // else UpstreamEvents hears of it
  // It was there before: a failure before the first byte may be the origin's idle close.
  virtual bool reused() const = 0;
  virtual std::chrono::nanoseconds connect_time() const = 0;

  // None: the head is too large. `coded` and the result as for ClientStream::begin.
  virtual std::optional<BodyForm> begin(const RequestHead& head,
                                        const http1::RequestForwarding& options, bool coded) = 0;
  // After Part::head, until the next one.
  const ResponseHead& response() const { return response_; }
  ResponseHead& response() { return response_; }
  virtual std::string_view failure() const = 0;
  // What of the answer could not be understood; none: it was not the answer's bytes that failed.
  ParseError parse_error() const { return parse_error_; }
  // Of the connection, when the answer is complete; only now and then.
  virtual std::optional<NetworkSample> sample_network() { return std::nullopt; }
  // The origin has not looked at the request: sending it again is safe (RFC 9113 section 8.7).
  virtual bool unprocessed() const { return false; }
  // The origin has said that its protocol switches to no other: an answer, and no fault of its.
  virtual bool takes_no_upgrade() const { return false; }

  // All that came is with the client: while more is waited for, no memory is held for it.
  virtual void release_buffer() {}

  // For a tunnel, as ClientStream::can_tunnel and take_client.
  virtual bool can_tunnel() const = 0;
  virtual UpstreamConnectionPtr take_connection(std::string& early) = 0;

  // `whole`: the exchange is over, so the connection may be kept. The stream is gone then.
  virtual void release(bool whole) = 0;

 protected:
  ResponseHead response_;
  ParseError parse_error_ = ParseError::none;
};

struct AbandonUpstream {
  void operator()(UpstreamStream* stream) const { stream->release(false); }
};
using UpstreamStreamPtr = std::unique_ptr<UpstreamStream, AbandonUpstream>;

}  // namespace sluice::gateway::http
