// Hostile bytes in what others read line by line: logs, traces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::gateway {

// Length of the well-formed UTF-8 sequence at the start of `text` (RFC 3629 section 4), 0 when
// there is none.
std::size_t utf8_sequence(std::string_view text);

// `format`: of printf, for one unsigned number.
void append_byte_escape(std::string& out, const char* format, unsigned char byte);

// What is not UTF-8 becomes U+FFFD, each byte one.
std::string repaired_utf8(std::string text);

// A byte that is not UTF-8 comes out as the code point of the same value (\u00ff): readable, unlike
// U+FFFD.
void append_json_string(std::string& out, std::string_view text);

}  // namespace sluice::gateway
