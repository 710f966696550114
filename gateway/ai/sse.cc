#include "gateway/ai/sse.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

SseParser::Line SseParser::next_line(std::string_view& bytes, LineEnds& ends,
                                     std::string_view& text) {
  if (skip_lf_) {
    skip_lf_ = false;
    if (bytes.front() == '\n') bytes.remove_prefix(1);
  }
  const std::size_t end = ends.first(bytes);
  const std::string_view part = bytes.substr(0, end);
  if (line_.size() + part.size() > kMaxEvent) return Line::too_large;
  if (end == std::string_view::npos) {
    line_ += part;
    bytes = {};
    return Line::incomplete;
  }
  skip_lf_ = bytes[end] == '\r';
  bytes.remove_prefix(end + 1);
  text = part;
  if (!line_.empty()) text = line_ += part;
  return data_.size() + seen_.size() + text.size() > kMaxEvent ? Line::too_large : Line::complete;
}

bool SseParser::end_line(std::string_view line) {
  if (at_start_ && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  at_start_ = false;
  if (line.empty()) {
    line_.clear();
    if (has_data_) return true;
    name_.clear();
    return false;
  }
  const std::size_t colon = line.find(':');
  std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  field(line.substr(0, colon), value);
  line_.clear();
  return false;
}

void SseParser::field(std::string_view name, std::string_view value) {
  if (name == "event") name_ = value;
  if (name != "data") return;
  const bool in_piece = line_.empty();
  if (in_piece && !has_data_) {
    seen_ = value;
  } else {
    keep();
    if (has_data_) data_ += '\n';
    data_ += value;
  }
  has_data_ = true;
}

void SseParser::begin_event() {
  name_.clear();
  data_.clear();
  seen_ = {};
  has_data_ = false;
}

void append_sse(std::string& out, std::string_view name, std::string_view data) {
  if (!name.empty()) out.append("event: ").append(name).append("\n");
  out.append("data: ").append(data).append("\n\n");
}

}  // namespace sluice::gateway::ai
