// What guard rules and `protect` mean, as a pure function: the oracle of the kernel's program, and
// what explain() runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

// The parts of a packet that rules look at.
struct PacketView {
  IpAddress from;
  IpAddress to;
  std::uint8_t protocol = 6;
  // Absent for protocols without ports and for all fragments but the first.
  std::optional<std::uint16_t> from_port;
  std::optional<std::uint16_t> to_port;
  bool egress = false;
  std::string_view interface = {};  // "": not known; what names interfaces is then taken to hold
  // Whether `auto` stands for the interface; nullopt: not known, then taken to hold but for lo.
  std::optional<bool> on_auto = std::nullopt;
};

// tcp, udp, udplite, dccp, sctp.
bool has_ports(std::uint8_t protocol);

// Which field of the rule does not match; `except`: all do, and so does its exception.
enum class RuleMismatch : std::uint8_t {
  none,
  from,
  to,
  protocol,
  from_ports,
  to_ports,
  ip_version,
  direction,
  interface,
  except,
};

// A rule matches if each field that it has matches and `except` does not; inside a field any
// element suffices. Ports without a protocol mean any that has ports. A rule that names no
// interfaces looks at the guard's.
RuleMismatch mismatch(const GuardConfig& guard, const GuardRule& rule, const PacketView& packet);

const std::vector<std::string>& interfaces_of(const GuardConfig& guard, const GuardRule& rule);

// Whether the guard sees what comes in there at all, and with it bans and rates: by its own
// interfaces, or those of a rule.
bool looks_at_ingress(const GuardConfig& guard, const PacketView& packet);

struct GuardVerdict {
  std::optional<std::uint32_t> dropped_by;  // index of the first matching `drop` in the file that
                                            // is enforced
  std::vector<std::uint32_t> matching;      // every rule whose counter rises
};
// Without `protect`, which wins over it.
GuardVerdict evaluate(const GuardConfig& guard, const PacketView& packet);

}  // namespace sluice::policy
