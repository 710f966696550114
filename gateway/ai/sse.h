// Server-sent events (WHATWG HTML, section 9.2), in and out.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::gateway::ai {

struct SseEvent {
  std::string_view name;  // "" where the stream says none
  std::string_view data;  // its lines joined by \n
};

// Takes a stream in pieces of any size. LF, CRLF and CR end a line; a byte order mark, comments and
// fields that are not `event` or `data` are passed over; an event without data is none.
class SseParser {
 public:
  static constexpr std::size_t kMaxEvent = 8 * 1024 * 1024;  // bytes of one line or event's data

  // Calls `on_event` for each event that `bytes` completes, if it wants with the number of bytes up
  // to there. False: an event is too large; no more can be read.
  template <typename OnEvent>
  bool feed(std::string_view bytes, OnEvent&& on_event) {
    LineEnds ends(bytes);
    const std::size_t size = bytes.size();
    while (!bytes.empty()) {
      std::string_view text;
      const Line line = next_line(bytes, ends, text);
      if (line == Line::too_large) return false;
      if (line == Line::incomplete) break;
      if (!end_line(text)) continue;
      if constexpr (std::invocable<OnEvent, SseEvent, std::size_t>) {
        on_event(event(), size - bytes.size());
      } else {
        on_event(event());
      }
      begin_event();
    }
    keep();
    return true;
  }

  // The stream has ended in good order: what only lacks its empty line is an event.
  template <typename OnEvent>
  void end(OnEvent&& on_event) {
    if (!line_.empty()) end_line(line_);
    if (has_data_) on_event(event());
    begin_event();
  }

  // Nothing of an unfinished event is held: the stream may end here.
  bool at_boundary() const { return line_.empty() && !has_data_ && name_.empty(); }

 private:
  enum class Line : unsigned char { complete, incomplete, too_large };

  // Where the lines of a piece end. Each of the two is looked for from where it was last found, so
  // that all looks together see each byte twice.
  class LineEnds {
   public:
    explicit LineEnds(std::string_view piece)
        : piece_(piece), lf_(piece.find('\n')), cr_(piece.find('\r')) {}
    // The first in `rest`, which is the piece's end; npos: none.
    std::size_t first(std::string_view rest) {
      const std::size_t at = piece_.size() - rest.size();
      if (lf_ < at) lf_ = piece_.find('\n', at);
      if (cr_ < at) cr_ = piece_.find('\r', at);
      const std::size_t end = std::min(lf_, cr_);
      return end == std::string_view::npos ? end : end - at;
    }

   private:
    std::string_view piece_;
    std::size_t lf_;
    std::size_t cr_;
  };

  // Takes a line off `bytes`. `text`: the whole of it, where it is complete.
  Line next_line(std::string_view& bytes, LineEnds& ends, std::string_view& text);
  bool end_line(std::string_view line);  // true: the event is complete
  void field(std::string_view name, std::string_view value);
  SseEvent event() const { return {name_, seen_.empty() ? data_ : seen_}; }
  void begin_event();
  // What the piece holds of an event that goes on behind it.
  void keep() {
    if (seen_.empty()) return;
    data_ = seen_;
    seen_ = {};
  }

  std::string line_;  // the beginning of one that is not complete
  std::string name_;
  std::string data_;
  std::string_view seen_;  // the same, of one line, where it lies in the piece under way
  bool has_data_ = false;
  bool skip_lf_ = false;  // the LF of a CRLF that a piece was cut in
  bool at_start_ = true;
};

// `name` may be "". `data` has no line breaks, as JSON that was serialised has none.
void append_sse(std::string& out, std::string_view name, std::string_view data);

}  // namespace sluice::gateway::ai
