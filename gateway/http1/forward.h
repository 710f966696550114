// What of a parsed head goes on to the other side, as slices of the received bytes (RFC 9110
// section 7.6). Hop-by-hop fields and what Connection names are dropped; the rest is passed in
// order, byte for byte, adjacent fields as one slice. Both directions speak HTTP/1.1 whatever came
// in.
#pragma once

#include <array>
#include <cstddef>
#include <expected>
#include <span>
#include <string_view>
#include <sys/uio.h>

#include "gateway/http1/field.h"
#include "gateway/http1/head.h"
#include "gateway/http1/parse_error.h"

namespace sluice::gateway::http1 {

// A head ready for writev. Slices point into the received head, the caller's strings and `scratch`:
// all must live until it is sent.
class OutgoingHead {
 public:
  static constexpr std::size_t kMaxSlices = 16;

  // What has to be new text is written to `scratch`. When slices run short, small ones are copied
  // there as well: with head.size() + 512 + all extras it always fits; 1 KiB fits all but hostile
  // heads.
  explicit OutgoingHead(std::span<char> scratch) : scratch_(scratch) {}

  std::span<const iovec> slices() const { return {slices_.data(), count_}; }
  std::size_t bytes() const { return bytes_; }

  // For the forwarders. `refer`: the bytes stay where they are; `copy`: into the scratch memory.
  void refer(std::string_view bytes);
  void copy(std::string_view bytes);
  // "name: value" as a line. False: there is no room for a copy, and nothing was written.
  bool copy_field(std::string_view name, std::string_view value);
  bool overflowed() const { return overflowed_; }

 private:
  bool extends() const;
  bool has_room(std::size_t size) const {
    return size <= scratch_.size() - used_ && (count_ != kMaxSlices || extends());
  }
  void take(std::size_t size);

  std::span<char> scratch_;
  std::size_t used_ = 0;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
  bool overflowed_ = false;
  std::array<iovec, kMaxSlices> slices_;
};

struct ExtraField {
  std::string_view name;   // a token
  std::string_view value;  // no CR, LF or NUL: it comes from us or from a checked policy
};

struct RequestForwarding {
  // As normalise_path returned it for this head; "" means that head.path() is normal already.
  std::string_view path{};
  // Host to send; "": the effective authority. A request without one (HTTP/1.0) needs it set.
  std::string_view host{};
  std::span<const ExtraField> add{};  // behind the client's fields, in this order
  std::string_view lines{};           // whole field lines with CRLF, behind those
  KnownFieldSet remove{};             // besides hop-by-hop: for what `add` replaces
  bool keep_expect =
      false;  // pass Expect on, from HTTP/1.1 clients only; the caller relays the 100
};

// Transfer-Encoding is re-made as "chunked" where the body is. Upgrade and its Connection are
// re-made where head.upgrade() is not empty. TE goes unless it says "trailers". HTTP2-Settings goes
// always. Errors: forwarded_head_too_large.
std::expected<void, ParseError> forward_request(const RequestHead& head,
                                                const RequestForwarding& options,
                                                OutgoingHead& out);

// How the body has to be relayed to fit the forwarded head.
enum class BodyRelay : std::uint8_t {
  none,
  verbatim,  // as it comes: counted, chunked (ChunkedDecoder::next_verbatim), or until the origin
             // closes
  dechunk,   // only the payload (ChunkedDecoder::next_data), then close
  enchunk,   // put into chunks (chunk_prefix), for a body that the origin ends by closing
};

struct ResponseForwarding {
  std::uint8_t client_minor_version = 1;
  bool client_keep_alive = true;  // RequestHead::keep_alive() and we want it too (draining: false)
  std::span<const ExtraField> add{};
  std::string_view lines{};  // whole field lines with CRLF, behind those
  KnownFieldSet remove{};
  bool recoded = false;  // the body that goes out is another one: its length is not known
};

struct ForwardedResponse {
  BodyRelay body = BodyRelay::none;
  bool close = false;  // the client's connection ends with this response; the head says so
};

// Interim responses (1xx) must not be sent to HTTP/1.0 clients: not calling this for them is the
// caller's part. Errors: forwarded_head_too_large.
std::expected<ForwardedResponse, ParseError> forward_response(const ResponseHead& head,
                                                              const ResponseForwarding& options,
                                                              OutgoingHead& out);

}  // namespace sluice::gateway::http1
