#include "gateway/http1/target.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "gateway/http1/octets.h"
#include "gateway/http1/path_scan.h"

namespace sluice::gateway::http1 {
namespace {

std::optional<unsigned> decimal(std::string_view text, unsigned max) {
  if (text.empty() || text.size() > 5 || !all_are(text, kDigit)) return std::nullopt;
  unsigned value = 0;
  for (char c : text)
    value = value * 10 + static_cast<unsigned>(c - '0');
  return value <= max ? std::optional(value) : std::nullopt;
}

// dec-octet "." dec-octet "." dec-octet "." dec-octet (RFC 3986 section 3.2.2): no leading zeros,
// which some read as octal.
bool is_ipv4(std::string_view text) {
  int dots = 0;
  int digits = 0;
  unsigned value = 0;
  for (const char c : text) {
    if (c == '.') {
      if (digits == 0 || ++dots > 3) return false;
      digits = 0;
      value = 0;
      continue;
    }
    if (!is(c, kDigit) || (digits != 0 && value == 0)) return false;
    value = value * 10 + static_cast<unsigned>(c - '0');
    if (++digits > 3 || value > 255) return false;
  }
  return dots == 3 && digits != 0;
}

// IPv6address (RFC 3986 section 3.2.2): eight groups, fewer with one "::", the last two perhaps as
// IPv4.
bool is_ipv6(std::string_view text) {
  int groups = 0;
  bool elided = false;
  if (text.starts_with("::")) {
    elided = true;
    text.remove_prefix(2);
    if (text.empty()) return true;
  }
  while (true) {
    const std::size_t colon = text.find(':');
    const std::string_view group = text.substr(0, colon);
    if (colon == std::string_view::npos && group.find('.') != std::string_view::npos) {
      if (!is_ipv4(group)) return false;
      groups += 2;
      break;
    }
    if (group.empty() || group.size() > 4 || !all_are(group, kHex)) return false;
    ++groups;
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
    if (text.starts_with(':')) {
      if (elided) return false;
      elided = true;
      text.remove_prefix(1);
      if (text.empty()) break;
    }
  }
  return elided ? groups <= 7 : groups == 8;
}

// One look at a name, or at what looks like one, up to ":" or the end.
struct HostScan {
  std::size_t size = 0;
  bool valid = false;   // a host name: its octets, and no empty label but a last one
  bool number = false;  // "what looks like a dotted number": the last label is digits (WHATWG URL
                        // calls it "ends in a number")
};

HostScan scan_host(std::string_view text) {
  std::uint8_t all = kHostName;
  std::uint8_t label = kDigit, label_before = 0;
  bool empty_label = false;
  char before = '.';
  std::size_t at = 0;
  for (; at < text.size() && text[at] != ':'; ++at) {
    const char c = text[at];
    const std::uint8_t classes = kOctets[static_cast<unsigned char>(c)];
    all &= classes;
    if (c == '.') {
      empty_label |= before == '.';
      label_before = std::exchange(label, kDigit);
    } else {
      label &= classes;
    }
    before = c;
  }
  return {.size = at,
          .valid = at != 0 && at <= 255 && (all & kHostName) != 0 && !empty_label,
          .number = ((before == '.' ? label_before : label) & kDigit) != 0};
}

char upper_hex(char c) {
  return c >= 'a' ? static_cast<char>(c - 0x20) : c;
}

// Rewrites a path into `out`, segment after segment. At most as long as what it reads.
class PathWriter {
 public:
  explicit PathWriter(char* out) : out_(out) {}

  ParseError write(std::string_view path) {
    std::size_t at = 0;
    while (at < path.size()) {
      const char c = path[at];
      if (c == '/') {
        if (const ParseError error = end_segment(); error != ParseError::none) return error;
        put_slash();
        ++at;
      } else if (c == '%') {
        if (const ParseError error = escape(path.substr(at)); error != ParseError::none) {
          return error;
        }
        at += 3;
      } else if (is(c, kPath)) {
        out_[size_++] = c;
        ++at;
      } else {
        return ParseError::bad_target;
      }
    }
    return end_segment();
  }

  std::size_t size() const { return size_; }

 private:
  // "//" is one slash: the segment before is empty.
  void put_slash() {
    if (size_ == 0 || out_[size_ - 1] != '/') out_[size_++] = '/';
    segment_ = size_;
  }

  ParseError escape(std::string_view text) {
    if (text.size() < 3 || !is(text[1], kHex) || !is(text[2], kHex)) {
      return ParseError::bad_percent_encoding;
    }
    const unsigned value = hex_value(text[1]) * 16 + hex_value(text[2]);
    if (value == 0) return ParseError::bad_percent_encoding;
    if (is(static_cast<char>(value), kUnreserved)) {
      out_[size_++] = static_cast<char>(value);
    } else {
      out_[size_++] = '%';
      out_[size_++] = upper_hex(text[1]);
      out_[size_++] = upper_hex(text[2]);
    }
    return ParseError::none;
  }

  // Takes a "." away, and a ".." with the segment before it.
  ParseError end_segment() {
    const std::string_view segment(out_ + segment_, size_ - segment_);
    if (segment == ".") {
      size_ = segment_;
    } else if (segment == "..") {
      if (segment_ <= 1) return ParseError::path_above_root;
      size_ = segment_ - 1;  // at the slash behind the segment that goes
      while (out_[size_ - 1] != '/')
        --size_;
      segment_ = size_;
    }
    return ParseError::none;
  }

  char* out_;
  std::size_t size_ = 0;
  std::size_t segment_ = 0;  // where the current segment begins
};

}  // namespace

std::optional<Authority> parse_authority(std::string_view text) {
  Authority authority;
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    authority.host = text.substr(1, close - 1);
    authority.kind = HostKind::ipv6;
    if (!is_ipv6(authority.host)) return std::nullopt;
    rest = text.substr(close + 1);
  } else {
    const HostScan scan = scan_host(text);
    if (!scan.valid) return std::nullopt;
    authority.host = text.substr(0, scan.size);
    if (scan.number) {
      if (!is_ipv4(authority.host)) return std::nullopt;
      authority.kind = HostKind::ipv4;
    }
    rest = text.substr(scan.size);
  }
  if (rest.empty() || rest == ":") return authority;
  if (rest.front() != ':') return std::nullopt;
  const auto port = decimal(rest.substr(1), 65535);
  if (!port || *port == 0) return std::nullopt;
  authority.port = static_cast<std::uint16_t>(*port);
  return authority;
}

std::expected<std::string_view, ParseError> normalise_path(std::string_view path,
                                                           std::span<char> scratch) {
  if (path == "*") return path;
  if (path.empty() || path.front() != '/') return std::unexpected(ParseError::bad_target);
  const PathScan scan = scan_path(path);
  if (!scan.valid || scan.size != path.size()) return std::unexpected(ParseError::bad_target);
  if (scan.normal) return path;

  if (scratch.size() < path.size()) return std::unexpected(ParseError::request_line_too_long);
  PathWriter writer(scratch.data());
  if (const ParseError error = writer.write(path); error != ParseError::none) {
    return std::unexpected(error);
  }
  const std::string_view normal(scratch.data(), writer.size());
  return normal == path ? path : normal;
}

}  // namespace sluice::gateway::http1
