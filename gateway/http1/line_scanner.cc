#include "gateway/http1/line_scanner.h"

#include <algorithm>
#include <bit>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace sluice::gateway::http1 {
namespace {

// Octets that no line has: controls but HTAB, and DEL. CR and LF are among them and end it.
constexpr bool is_control(char c) {
  const auto octet = static_cast<unsigned char>(c);
  return (octet < 0x20 && octet != '\t') || octet == 0x7f;
}

// The control octets in [at, end), one after the other.
class ControlFinder {
 public:
  ControlFinder(const char* data, std::uint32_t at, std::uint32_t end)
      : data_(data), at_(at), end_(end) {}

  // The first at or behind `from`, or the end. `from` does not go back.
  std::uint32_t find(std::uint32_t from) {
#if defined(__SSE2__)
    while (true) {
      while (mask_ != 0) {
        const std::uint32_t found =
            at_ - kBlock + static_cast<std::uint32_t>(std::countr_zero(mask_));
        if (found >= from) return found;
        mask_ &= mask_ - 1;
      }
      if (at_ + kBlock > end_) break;
      mask_ = controls(data_ + at_);
      at_ += kBlock;
    }
#endif
    if (at_ < from) at_ = from;
    while (at_ < end_ && !is_control(data_[at_]))
      ++at_;
    return at_;
  }

 private:
#if defined(__SSE2__)
  static constexpr std::uint32_t kBlock = 16;

  static unsigned controls(const char* block) {
    const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(octets, _mm_set1_epi8(0x1f)), octets);
    const __m128i bad =
        _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(octets, _mm_set1_epi8('\t')), low),
                     _mm_cmpeq_epi8(octets, _mm_set1_epi8(0x7f)));
    return static_cast<unsigned>(_mm_movemask_epi8(bad));
  }

  unsigned mask_ = 0;  // of the block before at_, what has not been passed
#endif
  const char* data_;
  std::uint32_t at_;
  std::uint32_t end_;
};

}  // namespace

Progress LineScanner::scan(std::string_view in, const HeadLimits& limits, HeadKind kind,
                           FieldTable& fields) {
  if (error_ != ParseError::none) return Progress::failed;
  const char* data = in.data();
  const auto end = static_cast<std::uint32_t>(std::min<std::size_t>(in.size(), limits.max_bytes));
  std::uint32_t at = scanned_;
  ControlFinder controls(data, at, end);
  while (true) {
    at = controls.find(at);
    if (kind == HeadKind::request && !have_first_ && at - line_at_ > limits.max_request_line) {
      return fail(ParseError::request_line_too_long);
    }
    if (at == end || (data[at] == '\r' && at + 1 == end)) {
      scanned_ = at;
      return starve(in.size(), limits, kind);
    }
    if (data[at] != '\r') {
      return fail(data[at] == '\n' ? ParseError::bare_lf : ParseError::control_byte);
    }
    if (data[at + 1] != '\n') return fail(ParseError::bare_cr);
    const Progress progress = take_line(in, at, limits, kind, fields);
    at += 2;
    line_at_ = at;
    if (progress != Progress::need_more) return progress;
  }
}

Progress LineScanner::take_line(std::string_view in, std::uint32_t cr, const HeadLimits& limits,
                                HeadKind kind, FieldTable& fields) {
  const std::uint32_t size = cr - line_at_;
  if (have_first_) {
    if (size == 0) return Progress::complete;
    if (in[line_at_] == ' ' || in[line_at_] == '\t') return fail(ParseError::obs_fold);
    const std::size_t index = fields.size();
    if (index >= std::min<std::size_t>(limits.max_fields, FieldTable::kCapacity)) {
      return fail(ParseError::too_many_fields);
    }
    FieldTable::Entry& entry = fields.entry(index);
    entry.line_at = static_cast<std::uint16_t>(line_at_);
    entry.value_size = static_cast<std::uint16_t>(size);
    fields.resize(index + 1);
    return Progress::need_more;
  }
  if (size == 0) {
    if (kind == HeadKind::response) return fail(ParseError::bad_status_line);
    if (skipped_empty_) return fail(ParseError::empty_lines);
    skipped_empty_ = true;
    return Progress::need_more;
  }
  have_first_ = true;
  first_at_ = line_at_;
  first_size_ = size;
  return Progress::need_more;
}

Progress LineScanner::starve(std::size_t received, const HeadLimits& limits, HeadKind kind) {
  if (received < limits.max_bytes) return Progress::need_more;
  return fail(kind == HeadKind::request && !have_first_ ? ParseError::request_line_too_long
                                                        : ParseError::head_too_large);
}

}  // namespace sluice::gateway::http1
