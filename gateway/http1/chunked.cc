#include "gateway/http1/chunked.h"

#include <algorithm>
#include <charconv>

#include "gateway/http1/field.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {
namespace {

constexpr int kMaxDigits = 16;

// Known fields are dropped, as nearly all of them must not come late (RFC 9110 section 6.5.1);
// these two may.
constexpr KnownFieldSet kKnownTrailers{KnownField::etag, KnownField::x_request_id};
// Families of names that speak of identity, of the hop, or of the browser's security.
constexpr std::string_view kForbiddenPrefixes[] = {"x-forwarded-", "proxy-", "sec-",
                                                   "access-control-"};

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](char c) {
    const auto octet = static_cast<unsigned char>(c);
    return (octet < 0x20 && octet != '\t') || octet == 0x7f;
  });
}

// The name of a trailer line (without CRLF), or "" if the line is malformed.
std::string_view trailer_name(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0 || has_control(line)) return {};
  const std::string_view name = line.substr(0, colon);
  return all_are(name, kToken) ? name : std::string_view{};
}

}  // namespace

bool may_be_trailer(std::string_view name) {
  const KnownField id = known_field(name);
  if (id != KnownField::unknown) return kKnownTrailers.contains(id);
  return std::ranges::none_of(kForbiddenPrefixes, [&](std::string_view prefix) {
    return name.size() >= prefix.size() &&
           equals_ignoring_case(name.substr(0, prefix.size()), prefix);
  });
}

// The input of one step, and the one contiguous piece of it that is to be forwarded.
class ChunkedDecoder::Cursor {
 public:
  Cursor(std::string_view in, bool verbatim) : in_(in), verbatim_(verbatim) {}

  bool empty() const { return at_ == in_.size(); }
  char peek() const { return in_[at_]; }
  std::string_view rest() const { return in_.substr(at_); }
  std::size_t at() const { return at_; }
  std::string_view piece() const { return in_.substr(begin_, size_); }
  bool has_piece() const { return size_ != 0; }

  // To be forwarded. False: not contiguous with the piece so far, which has to be handed out first.
  bool keep(std::size_t octets) {
    if (size_ == 0) begin_ = at_;
    if (begin_ + size_ != at_) return false;
    size_ += octets;
    at_ += octets;
    return true;
  }
  // Not to be forwarded, in either mode.
  bool drop(std::size_t octets) {
    at_ += octets;
    return true;
  }
  // The framing: forwarded when the relay is verbatim.
  bool frame(std::size_t octets) { return verbatim_ ? keep(octets) : drop(octets); }
  // A line to be forwarded; where the framing is not, as a piece of its own.
  bool keep_trailer(std::size_t octets) {
    if (verbatim_) return keep(octets);
    if (has_piece()) return false;
    trailer_ = in_.substr(at_, octets);
    return drop(octets);
  }
  std::string_view trailer() const { return trailer_; }

 private:
  std::string_view in_;
  bool verbatim_;
  std::size_t at_ = 0;
  std::size_t begin_ = 0;
  std::size_t size_ = 0;
  std::string_view trailer_;
};

ChunkedStep ChunkedDecoder::next_verbatim(std::string_view in) {
  return step(in, true);
}
ChunkedStep ChunkedDecoder::next_data(std::string_view in) {
  return step(in, false);
}

ChunkedStep ChunkedDecoder::step(std::string_view in, bool verbatim) {
  Cursor cursor(in, verbatim);
  while (state_ != State::done && advance(cursor)) {
  }
  const ChunkedStatus status = state_ == State::done     ? ChunkedStatus::done
                               : state_ == State::failed ? ChunkedStatus::failed
                                                         : ChunkedStatus::more;
  return {status, cursor.at(), cursor.piece(), cursor.trailer()};
}

bool ChunkedDecoder::advance(Cursor& in) {
  if (in.empty() || state_ == State::failed) return false;
  switch (state_) {
    case State::size:
      return size_octet(in);
    case State::extension:
      return extension_octets(in);
    case State::size_lf:
      return end_of_size_line(in);
    case State::data:
      return data_octets(in);
    case State::data_cr:
      return end_of_data(in, '\r', State::data_lf);
    case State::data_lf:
      return end_of_data(in, '\n', State::size);
    case State::trailer:
      return trailer_line(in);
    case State::done:
    case State::failed:
      return false;
  }
  return false;
}

// What came before the error is good and handed out; the next call meets the error again, with no
// piece.
bool ChunkedDecoder::fail(Cursor& in, ParseError error) {
  if (!in.has_piece()) {
    error_ = error;
    state_ = State::failed;
  }
  return false;
}

bool ChunkedDecoder::size_octet(Cursor& in) {
  const char c = in.peek();
  if (is(c, kHex)) {
    if (digits_ == kMaxDigits) return fail(in, ParseError::bad_chunk_size);
    const std::uint64_t size = remaining_ << 4 | hex_value(c);
    if (size > kMaxChunk) return fail(in, ParseError::chunk_too_large);
    if (!in.frame(1)) return false;
    remaining_ = size;
    ++digits_;
    return true;
  }
  if (digits_ == 0) return fail(in, ParseError::bad_chunk_size);
  if (c == '\r') {
    if (!in.frame(1)) return false;
    state_ = State::size_lf;
    return true;
  }
  if (c != ';' && !is_ows(c)) return fail(in, ParseError::bad_chunk_size);
  state_ = State::extension;
  return true;
}

// Extensions, and white space that some senders put behind the size, go up to CR; their syntax is
// nobody's business, as nobody sees them, but white space must not hide another size ("5 6").
bool ChunkedDecoder::extension_octets(Cursor& in) {
  if (in.has_piece()) return false;
  const char c = in.peek();
  if (c == '\r') {
    if (!in.frame(1)) return false;
    state_ = State::size_lf;
    return true;
  }
  const auto octet = static_cast<unsigned char>(c);
  if (octet == '\n') return fail(in, ParseError::bare_lf);
  if ((octet < 0x20 && octet != '\t') || octet == 0x7f) return fail(in, ParseError::control_byte);
  if (c == ';') {
    in_extension_ = true;
  } else if (!in_extension_ && !is_ows(c)) {
    return fail(in, ParseError::bad_chunk_size);
  }
  if (digits_ + ++line_bytes_ > static_cast<int>(kMaxChunkLine)) {
    return fail(in, ParseError::chunk_line_too_long);
  }
  if (++excess_ > kMaxExtensions) return fail(in, ParseError::chunk_extensions_excessive);
  return in.drop(1);
}

bool ChunkedDecoder::end_of_size_line(Cursor& in) {
  if (in.peek() != '\n') return fail(in, ParseError::bare_cr);
  if (!in.frame(1)) return false;
  excess_ -= static_cast<std::uint32_t>(std::min<std::uint64_t>(excess_, remaining_));
  state_ = remaining_ == 0 ? State::trailer : State::data;
  digits_ = 0;
  line_bytes_ = 0;
  in_extension_ = false;
  return true;
}

bool ChunkedDecoder::data_octets(Cursor& in) {
  const std::size_t octets = std::min<std::uint64_t>(remaining_, in.rest().size());
  if (!in.keep(octets)) return false;
  skip_data(octets);
  return true;
}

void ChunkedDecoder::skip_data(std::uint64_t bytes) {
  remaining_ -= bytes;
  payload_ += bytes;
  if (remaining_ == 0) state_ = State::data_cr;
}

bool ChunkedDecoder::end_of_data(Cursor& in, char expected, State next) {
  if (in.peek() != expected) return fail(in, ParseError::bad_chunk_end);
  if (!in.frame(1)) return false;
  state_ = next;
  return true;
}

bool ChunkedDecoder::trailer_line(Cursor& in) {
  const std::string_view rest = in.rest();
  const std::size_t lf = rest.find('\n');
  const std::size_t size = lf == std::string_view::npos ? rest.size() : lf + 1;
  if (size > kMaxTrailerLine || trailer_bytes_ + size > kMaxTrailers) {
    return fail(in, ParseError::trailers_too_large);
  }
  if (lf == std::string_view::npos) return false;
  if (lf == 0 || rest[lf - 1] != '\r') return fail(in, ParseError::bare_lf);

  const std::string_view line = rest.substr(0, lf - 1);
  if (line.empty()) {
    if (!in.frame(2)) return false;
    state_ = State::done;
    return true;
  }
  const std::string_view name = trailer_name(line);
  if (name.empty()) return fail(in, ParseError::bad_trailer);
  if (!(may_be_trailer(name) ? in.keep_trailer(size) : in.drop(size))) return false;
  trailer_bytes_ = static_cast<std::uint16_t>(trailer_bytes_ + size);
  return in.trailer().empty();  // one a step
}

std::string_view chunk_prefix(std::uint64_t bytes, std::span<char> out) {
  char* end = std::to_chars(out.data(), out.data() + out.size() - 2, bytes, 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  return {out.data(), static_cast<std::size_t>(end - out.data())};
}

}  // namespace sluice::gateway::http1
