// The typed form of `protect`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct ProtectFrom {
  Prefix cidr;
  std::vector<PortRange> to_ports;      // empty: all
  std::vector<std::string> interfaces;  // empty: all
  Location where;
};

struct Protect {
  std::vector<ProtectFrom> from;
  std::vector<std::uint16_t> host_ports{22};  // of the node's own addresses
};

}  // namespace sluice::policy
