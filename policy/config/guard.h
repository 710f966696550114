// The typed form of `guard`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class GuardAction { drop, count, limit };
enum class GuardAttach { tc, xdp, xdp_generic };
enum class GuardDirection { ingress, egress, both };
enum class GuardMode { enforce, audit };
enum class GuardMonitor { service, source };

struct PacketRate {
  std::uint64_t count = 0;  // in each period
  Duration period = 1s;
  std::uint64_t burst = 0;  // left out in the file: the rate of one second, at least 1
};

struct GuardMatch {
  AddressMatch from;
  AddressMatch to;
  std::vector<PortRange> from_ports;
  std::vector<PortRange> to_ports;

  bool empty() const {  // asks nothing: matches any packet
    return from.empty() && to.empty() && from_ports.empty() && to_ports.empty();
  }
};

struct GuardRule {
  std::string name;  // given, or made from the rule's place; unique
  GuardMatch match;
  GuardMatch except;
  std::optional<std::uint8_t> protocol;  // IANA number
  GuardAction action = GuardAction::drop;
  std::optional<PacketRate> rate;  // of action limit
  GuardDirection direction = GuardDirection::ingress;
  std::optional<std::vector<std::string>> interfaces;  // absent: the guard's; empty: auto
  GuardMode mode = GuardMode::enforce;
  Location where;
};

struct GuardConfig {
  std::vector<std::string> interfaces;  // empty: auto (those with a default route); names and globs
  GuardAttach attach = GuardAttach::tc;
  bool first = true;                      // position
  GuardMode mode = GuardMode::enforce;    // audit: of every rule, and of the two SYN rates
  std::optional<PacketRate> source_syn;   // per_source: { syn }
  std::optional<PacketRate> service_syn;  // per_service: { syn }
  std::vector<GuardMonitor> monitor;
  Location where;
  std::vector<GuardRule> rules;
};

}  // namespace sluice::policy
