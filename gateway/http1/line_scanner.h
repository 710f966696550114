// Finds the lines of a head as it arrives, and refuses what no line may have. Never looks at a byte
// twice.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/http1/field.h"
#include "gateway/http1/parse_error.h"

namespace sluice::gateway::http1 {

struct HeadLimits {
  std::uint32_t max_bytes = 32 * 1024;         // the whole head; at most 65535. Beyond: 431
  std::uint32_t max_request_line = 16 * 1024;  // beyond: 414
  std::uint32_t max_fields = 128;              // at most FieldTable::kCapacity. Beyond: 431
};

enum class Progress : std::uint8_t { need_more, complete, failed };

enum class HeadKind : std::uint8_t { request, response };

class LineScanner {
 public:
  void reset() { *this = LineScanner{}; }

  // Field lines go into `fields`, as line_at and, in value_size, their length without CRLF. Returns
  // `complete` when the empty line has come. A request may have one empty line in front (RFC 9112
  // section 2.2).
  Progress scan(std::string_view in, const HeadLimits& limits, HeadKind kind, FieldTable& fields);

  Progress fail(ParseError why) {
    error_ = why;
    return Progress::failed;
  }
  ParseError error() const { return error_; }
  bool untouched() const { return line_at_ == 0; }  // no line has been found

  // Once complete.
  std::uint16_t first_at() const {
    return static_cast<std::uint16_t>(first_at_);
  }  // the start line
  std::uint16_t first_size() const { return static_cast<std::uint16_t>(first_size_); }  // no CRLF
  std::uint16_t size() const {
    return static_cast<std::uint16_t>(line_at_);
  }  // past the empty line

 private:
  // Takes the line [line_at_, cr). Returns whether the head goes on.
  Progress take_line(std::string_view in, std::uint32_t cr, const HeadLimits& limits, HeadKind kind,
                     FieldTable& fields);
  Progress starve(std::size_t received, const HeadLimits& limits, HeadKind kind);

  std::uint32_t scanned_ = 0;  // all before is clean and in lines, or part of the line at line_at_
  std::uint32_t line_at_ = 0;
  std::uint32_t first_at_ = 0;
  std::uint32_t first_size_ = 0;
  ParseError error_ = ParseError::none;
  bool have_first_ = false;
  bool skipped_empty_ = false;
};

}  // namespace sluice::gateway::http1
