// Why a message was refused, with what to answer and what to log.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluice::gateway::http1 {

enum class ParseError : std::uint8_t {
  none,
  // line structure (RFC 9112 sections 2.2, 5)
  bare_lf,
  bare_cr,
  control_byte,
  empty_lines,
  obs_fold,
  head_too_large,
  too_many_fields,
  request_line_too_long,
  // request line (RFC 9112 section 3)
  bad_method,
  bad_request_line,
  bad_version,
  unsupported_version,
  bad_target,
  bad_target_form,
  bad_percent_encoding,
  path_above_root,
  // status line (RFC 9112 section 4)
  bad_status_line,
  // fields (RFC 9112 section 5)
  missing_colon,
  space_before_colon,
  bad_field_name,
  // Host (RFC 9112 section 3.2, RFC 3986 section 3.2.2)
  missing_host,
  duplicate_host,
  bad_host,
  // framing (RFC 9112 section 6)
  bad_content_length,
  duplicate_content_length,
  content_length_with_transfer_encoding,
  bad_transfer_encoding,
  unknown_transfer_coding,
  transfer_encoding_in_http10,
  body_not_allowed,
  bad_connection,
  // an origin's 101 that nobody asked for (RFC 9110 section 15.2.2)
  unexpected_upgrade,
  // chunked (RFC 9112 section 7.1)
  bad_chunk_size,
  chunk_too_large,
  chunk_line_too_long,
  chunk_extensions_excessive,
  bad_chunk_end,
  bad_trailer,
  trailers_too_large,
  // HTTP/2 (RFC 9113 section 8.1.1): what has no form in HTTP/1.1
  malformed_http2,
  // building a head: it fits neither the slices nor the scratch memory
  forwarded_head_too_large,
};

// The enumerator's name, for metrics and logs.
std::string_view name(ParseError error);
// A phrase for people, without the message's own bytes.
std::string_view reason(ParseError error);
// What a client is told: 400, 414, 431, 501 or 505. (From an origin, each of them is a 502.)
int status(ParseError error);

}  // namespace sluice::gateway::http1
