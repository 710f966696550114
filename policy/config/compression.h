// The typed form of `compression`, on routes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::policy {

enum class Coding : std::uint8_t { br, gzip };

struct Compression {
  std::vector<Coding> algorithms{Coding::br, Coding::gzip};  // the preferred one first
  std::vector<std::string> types{"application/javascript", "application/json", "application/xml",
                                 "image/svg+xml", "text/css", "text/csv", "text/html",
                                 "text/javascript", "text/plain", "text/xml"};  // lower case
  std::uint64_t min_size = 1024;  // bytes, where the answer's length is known
  std::uint32_t level = 5;        // 1 to 9
};

}  // namespace sluice::policy
