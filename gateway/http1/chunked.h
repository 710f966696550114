// The chunked transfer coding (RFC 9112 section 7.1), decoded as it arrives, over whatever pieces
// the reads give.
//
// A relay forwards the sender's own bytes: sizes, data and line ends go on verbatim, so nothing is
// copied. What is not forwarded: chunk extensions and white space after a size (both are this hop's
// business, and where parsers differ), and trailer fields that must not come late (framing,
// routing, authentication, and what controls the hop). What is forwarded has therefore exactly one
// reading: hex digits, CRLF, data, CRLF, trailer lines, CRLF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "gateway/http1/parse_error.h"

namespace sluice::gateway::http1 {

enum class ChunkedStatus : std::uint8_t {
  more,    // go on: with the rest of this input if any is left, else with the next
  done,    // the message has ended; what follows the consumed bytes belongs to the next one
  failed,  // see error(); nothing more may be forwarded, the connection must be closed
};

struct ChunkedStep {
  ChunkedStatus status = ChunkedStatus::more;
  // Bytes of the input that are finished with. Where `status` is `more` and this is 0, what is left
  // is an incomplete trailer line (at most kMaxTrailerLine bytes): keep it and call again with more
  // behind it.
  std::size_t consumed = 0;
  // A part of the input: bytes to send on (next_verbatim), or payload (next_data). May be empty.
  std::string_view forward;
  // next_data only: a trailer line with its CRLF that may be sent on.
  std::string_view trailer = {};
};

// Whether a field of this name may come behind the body (RFC 9110 section 6.5.1).
bool may_be_trailer(std::string_view name);

class ChunkedDecoder {
 public:
  static constexpr std::uint64_t kMaxChunk = std::uint64_t{1} << 60;
  static constexpr std::size_t kMaxChunkLine = 4096;  // size and extensions
  static constexpr std::size_t kMaxExtensions =
      16384;  // of the whole message, above what its data outweighs
  static constexpr std::size_t kMaxTrailerLine = 4096;
  static constexpr std::size_t kMaxTrailers = 8192;  // the whole trailer section

  void reset() { *this = ChunkedDecoder{}; }

  // To send the message on as chunked. Each call returns one contiguous piece; without extensions
  // and dropped trailers that is the whole input. Loop while input is left and consumed is not 0.
  ChunkedStep next_verbatim(std::string_view in);

  // To read the payload, or to send it on without chunks (HTTP/1.0 clients, HTTP/2). One piece of
  // one chunk, or one trailer line, per call.
  ChunkedStep next_data(std::string_view in);

  ParseError error() const { return error_; }
  bool done() const { return state_ == State::done; }

  // Payload bytes that the current chunk still lacks: a relay may move so many by other means
  // (splice) and say so. Only whole or partial payload, never the CRLF behind it.
  std::uint64_t data_remaining() const { return state_ == State::data ? remaining_ : 0; }
  void skip_data(std::uint64_t bytes);  // bytes <= data_remaining()

  std::uint64_t payload_bytes() const { return payload_; }  // seen so far, skipped ones included

 private:
  enum class State : std::uint8_t {
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer,  // at the beginning of a trailer line
    done,
    failed,
  };

  class Cursor;
  // Each takes some octets of its state; false: stop here, for want of input, for an error, or to
  // hand out a piece.
  ChunkedStep step(std::string_view in, bool verbatim);
  bool advance(Cursor& in);
  bool size_octet(Cursor& in);
  bool extension_octets(Cursor& in);
  bool end_of_size_line(Cursor& in);
  bool data_octets(Cursor& in);
  bool end_of_data(Cursor& in, char expected, State next);
  bool trailer_line(Cursor& in);
  bool fail(Cursor& in, ParseError error);

  std::uint64_t remaining_ = 0;
  std::uint64_t payload_ = 0;
  std::uint32_t excess_ = 0;
  std::uint16_t line_bytes_ = 0;
  std::uint16_t trailer_bytes_ = 0;
  std::uint8_t digits_ = 0;
  bool in_extension_ = false;  // a ";" has come
  State state_ = State::size;
  ParseError error_ = ParseError::none;
};

// "1a2b\r\n" before, "\r\n" after each chunk: for a relay that makes chunks of a body that ends
// with its connection. `out` must hold 18 bytes; `bytes` is not 0 (that would be the end:
// kLastChunk).
std::string_view chunk_prefix(std::uint64_t bytes, std::span<char> out);
inline constexpr std::string_view kChunkEnd = "\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace sluice::gateway::http1
