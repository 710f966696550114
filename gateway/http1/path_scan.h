// One look at a path: how far it goes, whether it is valid, whether it is in its normal form
// already.
#pragma once

#include <cstddef>
#include <string_view>

#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {

struct PathScan {
  std::size_t size = 0;  // up to "?" or the end
  bool valid = false;    // only octets that a path may have
  bool normal = false;   // no escape, no "//", no segment that begins with a dot
};

inline PathScan scan_path(std::string_view text) {
  std::uint8_t all = kPath;
  bool odd = false;
  char before = 0;
  std::size_t at = 0;
  for (; at < text.size() && text[at] != '?'; ++at) {
    const char c = text[at];
    all &= kOctets[static_cast<unsigned char>(c)];
    odd |= c == '%' || (before == '/' && (c == '/' || c == '.'));
    before = c;
  }
  return {at, (all & kPath) != 0, !odd};
}

}  // namespace sluice::gateway::http1
