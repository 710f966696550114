#include "gateway/text_escapes.h"

#include <cstdio>

namespace sluice::gateway {

std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto follows = [&](std::size_t i, unsigned low, unsigned high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1, 0x80, 0xbf) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;   // no overlong form
    const unsigned high = first == 0xed ? 0x9f : 0xbf;  // no surrogate
    return follows(1, low, high) && follows(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;  // up to U+10FFFF
    return follows(1, low, high) && follows(2, 0x80, 0xbf) && follows(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

std::string repaired_utf8(std::string text) {
  std::size_t good = 0;
  const auto skip = [&](std::string_view in) {
    std::size_t length = 0;
    while (good < in.size() && (length = utf8_sequence(in.substr(good))) > 0)
      good += length;
    return good < in.size();
  };
  if (!skip(text)) return text;
  std::string out(text, 0, good);
  for (std::size_t from = good; from < text.size(); from = good) {
    out += "\xef\xbf\xbd";
    from = ++good;
    skip(text);
    out.append(text, from, good - from);
  }
  return out;
}

void append_byte_escape(std::string& out, const char* format, unsigned char byte) {
  char escape[8];
  std::snprintf(escape, sizeof escape, format, byte);
  out += escape;
}

void append_json_string(std::string& out, std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_sequence(text.substr(i));
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text[i++];
    } else if (byte < 0x20 || byte == 0x7f || length == 0) {
      append_byte_escape(out, "\\u%04x", byte);
      ++i;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
}

}  // namespace sluice::gateway
