// Addresses as people read them, and what prefixes and ranges contain.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel {

std::string to_text(const Prefix& prefix);  // "10.0.0.0/8", "2001:db8::1"; a host without a length
bool covers(const Prefix& wide, const Prefix& narrow);  // equal counts; never across IP versions
bool covered(const std::vector<Prefix>& prefixes, const Prefix& host);  // none: nothing is
bool covered(const std::vector<PortRange>& ranges, std::uint16_t port);  // none: each is
Prefix host_prefix(const std::array<std::uint8_t, 16>& address);  // IPv4 when mapped
const Prefix& all_of_v4();
// The length that people write: 0 to 32 for IPv4, 0 to 128 for IPv6.
inline int own_length(const Prefix& prefix) {
  return prefix.v4 ? prefix.length - 96 : prefix.length;
}
const char* to_text(WayIn way);  // "bind", "local", "forward", "output"

}  // namespace sluice::kernel
