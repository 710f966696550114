#include "gateway/http1/parse_error.h"

#include <array>

namespace sluice::gateway::http1 {
namespace {

struct Entry {
  ParseError error;
  int status;
  std::string_view name;
  std::string_view reason;
};

constexpr Entry kEntries[] = {
    {ParseError::none, 200, "none", "no error"},
    {ParseError::bare_lf, 400, "bare_lf", "a line ends with LF without CR"},
    {ParseError::bare_cr, 400, "bare_cr", "CR without LF"},
    {ParseError::control_byte, 400, "control_byte", "a control byte in the head"},
    {ParseError::empty_lines, 400, "empty_lines", "more than one empty line before the start line"},
    {ParseError::obs_fold, 400, "obs_fold",
     "a field line begins with white space (obsolete folding)"},
    {ParseError::head_too_large, 431, "head_too_large", "the head exceeds its maximum size"},
    {ParseError::too_many_fields, 431, "too_many_fields", "the head has too many fields"},
    {ParseError::request_line_too_long, 414, "request_line_too_long",
     "the request line exceeds its maximum length"},
    {ParseError::bad_method, 400, "bad_method", "the method is not a token"},
    {ParseError::bad_request_line, 400, "bad_request_line",
     "the request line is not method, target, version with one space between each"},
    {ParseError::bad_version, 400, "bad_version", "the version is not of the form HTTP/1.1"},
    {ParseError::unsupported_version, 505, "unsupported_version",
     "a version of HTTP other than 1.0 and 1.1"},
    {ParseError::bad_target, 400, "bad_target",
     "the request target has an octet that must be percent-encoded"},
    {ParseError::bad_target_form, 400, "bad_target_form",
     "the request target's form does not fit the method"},
    {ParseError::bad_percent_encoding, 400, "bad_percent_encoding",
     "a percent sign without two hexadecimal digits, or %00"},
    {ParseError::path_above_root, 400, "path_above_root", "the path leads above the root"},
    {ParseError::bad_status_line, 400, "bad_status_line",
     "the status line is not version, three digits, reason"},
    {ParseError::missing_colon, 400, "missing_colon", "a field line without a colon"},
    {ParseError::space_before_colon, 400, "space_before_colon",
     "white space between a field's name and the colon"},
    {ParseError::bad_field_name, 400, "bad_field_name", "a field name that is not a token"},
    {ParseError::missing_host, 400, "missing_host", "HTTP/1.1 without a Host field"},
    {ParseError::duplicate_host, 400, "duplicate_host", "more than one Host field"},
    {ParseError::bad_host, 400, "bad_host",
     "the host is not a name or address with an optional port"},
    {ParseError::bad_content_length, 400, "bad_content_length",
     "Content-Length is not a plain decimal number"},
    {ParseError::duplicate_content_length, 400, "duplicate_content_length",
     "more than one Content-Length"},
    {ParseError::content_length_with_transfer_encoding, 400,
     "content_length_with_transfer_encoding", "both Content-Length and Transfer-Encoding"},
    {ParseError::bad_transfer_encoding, 400, "bad_transfer_encoding",
     "Transfer-Encoding does not end with chunked, once and last"},
    {ParseError::unknown_transfer_coding, 501, "unknown_transfer_coding",
     "a transfer coding other than chunked"},
    {ParseError::transfer_encoding_in_http10, 400, "transfer_encoding_in_http10",
     "Transfer-Encoding in a message of HTTP/1.0"},
    {ParseError::body_not_allowed, 400, "body_not_allowed",
     "a response of this status announces a body that it cannot have"},
    {ParseError::bad_connection, 400, "bad_connection",
     "Connection is not a list of at most 32 tokens"},
    {ParseError::unexpected_upgrade, 400, "unexpected_upgrade",
     "a 101 that was not asked for, or without Upgrade"},
    {ParseError::bad_chunk_size, 400, "bad_chunk_size",
     "a chunk size that is not hexadecimal digits"},
    {ParseError::chunk_too_large, 400, "chunk_too_large", "a chunk of more than 2^60 bytes"},
    {ParseError::chunk_line_too_long, 400, "chunk_line_too_long",
     "a chunk's size line exceeds its maximum length"},
    {ParseError::chunk_extensions_excessive, 400, "chunk_extensions_excessive",
     "chunk extensions outweigh the data"},
    {ParseError::bad_chunk_end, 400, "bad_chunk_end", "a chunk's data does not end with CRLF"},
    {ParseError::bad_trailer, 400, "bad_trailer", "a malformed trailer field"},
    {ParseError::trailers_too_large, 431, "trailers_too_large",
     "the trailer section exceeds its maximum size"},
    {ParseError::malformed_http2, 400, "malformed_http2", "the request has no form in HTTP/1.1"},
    {ParseError::forwarded_head_too_large, 431, "forwarded_head_too_large",
     "the head, as it would be forwarded, does not fit its memory"},
};

constexpr bool in_order() {
  std::size_t index = 0;
  for (const Entry& entry : kEntries) {
    if (static_cast<std::size_t>(entry.error) != index++) return false;
  }
  return index == static_cast<std::size_t>(ParseError::forwarded_head_too_large) + 1;
}
static_assert(in_order());

const Entry& entry_of(ParseError error) {
  return kEntries[static_cast<std::size_t>(error)];
}

}  // namespace

std::string_view name(ParseError error) {
  return entry_of(error).name;
}
std::string_view reason(ParseError error) {
  return entry_of(error).reason;
}
int status(ParseError error) {
  return entry_of(error).status;
}

}  // namespace sluice::gateway::http1
