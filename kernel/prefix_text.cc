#include "kernel/prefix_text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>

namespace sluice::kernel {
namespace {
constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
}

std::string to_text(const Prefix& prefix) {
  char text[INET6_ADDRSTRLEN] = {};
  if (prefix.v4) {
    ::inet_ntop(AF_INET, prefix.address.data() + 12, text, sizeof(text));
  } else {
    ::inet_ntop(AF_INET6, prefix.address.data(), text, sizeof(text));
  }
  if (prefix.length == 128) return text;
  return std::string(text) + "/" + std::to_string(own_length(prefix));
}

bool covers(const Prefix& wide, const Prefix& narrow) {
  if (wide.v4 != narrow.v4 || wide.length > narrow.length) return false;
  const std::size_t whole = wide.length / 8;
  if (std::memcmp(wide.address.data(), narrow.address.data(), whole) != 0) return false;
  const int rest = wide.length % 8;
  if (rest == 0) return true;
  const std::uint8_t mask = static_cast<std::uint8_t>(0xff << (8 - rest));
  return (wide.address[whole] & mask) == (narrow.address[whole] & mask);
}

bool covered(const std::vector<Prefix>& prefixes, const Prefix& host) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const Prefix& prefix) { return covers(prefix, host); });
}

bool covered(const std::vector<PortRange>& ranges, std::uint16_t port) {
  return ranges.empty() || std::any_of(ranges.begin(), ranges.end(), [&](PortRange range) {
           return range.first <= port && port <= range.last;
         });
}

Prefix host_prefix(const std::array<std::uint8_t, 16>& address) {
  return {address, 128, std::equal(kMapped.begin(), kMapped.end(), address.begin())};
}

const Prefix& all_of_v4() {
  static const Prefix prefix = [] {
    Prefix all{{}, 96, true};
    std::copy(kMapped.begin(), kMapped.end(), all.address.begin());
    return all;
  }();
  return prefix;
}

const char* to_text(WayIn way) {
  constexpr const char* kNames[] = {"bind", "local", "forward", "output"};
  return kNames[static_cast<int>(way)];
}

}  // namespace sluice::kernel
