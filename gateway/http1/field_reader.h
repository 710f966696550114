// From field lines to fields, and what the fields of either kind of message say about its framing
// and its connection. Internal to the head parsers.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/http1/field.h"
#include "gateway/http1/parse_error.h"

namespace sluice::gateway::http1 {

// What a head's fields say, gathered in one pass over them.
struct FieldFacts {
  std::uint64_t content_length = 0;
  std::int16_t host = -1;     // index of the field; -1: none
  std::int16_t upgrade = -1;  // -1 too if there are several, or one offers h2c
  bool has_content_length = false;
  bool has_transfer_encoding = false;  // and it is exactly "chunked"
  bool duplicate_host = false;
  bool connection_close = false;
  bool connection_keep_alive = false;
  bool connection_upgrade = false;
};

// Completes the entries that the LineScanner began, and fills `facts`. `base` is where offsets
// count from. Refuses malformed names, and framing fields that could be read in two ways (RFC 9112
// sections 5.1, 6.1 to 6.3).
ParseError read_fields(const char* base, FieldTable& fields, int minor_version, FieldFacts& facts);

// Fields that end here whatever Connection says (RFC 9110 section 7.6.1).
inline constexpr KnownFieldSet kHopByHop{KnownField::connection,       KnownField::keep_alive,
                                         KnownField::proxy_connection, KnownField::te,
                                         KnownField::upgrade,          KnownField::http2_settings};

}  // namespace sluice::gateway::http1
