#include "policy/drop_rules.h"

#include <algorithm>
#include <fnmatch.h>

#include "policy/ip_protocols.h"

namespace sluice::policy {

namespace {

bool holds(const AddressMatch& match, const IpAddress& address) {
  return match.empty() || match.contains(address);
}

bool holds(const std::vector<PortRange>& ranges, std::optional<std::uint16_t> port) {
  return ranges.empty() || (port && std::ranges::any_of(ranges, [&](const PortRange& range) {
                              return range.contains(*port);
                            }));
}

RuleMismatch mismatch(const GuardMatch& match, const PacketView& packet) {
  if (!holds(match.from, packet.from)) return RuleMismatch::from;
  if (!holds(match.to, packet.to)) return RuleMismatch::to;
  if (!holds(match.from_ports, packet.from_port)) return RuleMismatch::from_ports;
  if (!holds(match.to_ports, packet.to_port)) return RuleMismatch::to_ports;
  return RuleMismatch::none;
}

bool of_other_version(std::uint8_t protocol, bool v4) {
  return (protocol == kIcmp && !v4) || (protocol == kIcmpV6 && v4);
}

// As kernel/interfaces.h selects them: a glob does not take the loopback with it.
bool names(const std::string& pattern, const std::string& interface) {
  return pattern == interface ||
         (interface != "lo" && ::fnmatch(pattern.c_str(), interface.c_str(), 0) == 0);
}

bool of_direction(GuardDirection direction, bool egress) {
  return direction == GuardDirection::both || (direction == GuardDirection::egress) == egress;
}

// Whether a name is one of `auto` only the node knows, and the packet says where it was asked.
bool on_interface(const std::vector<std::string>& patterns, const PacketView& packet) {
  const std::string name(packet.interface);
  if (name.empty()) return true;
  if (patterns.empty()) return packet.on_auto.value_or(name != "lo");
  return std::ranges::any_of(patterns, [&](const auto& pattern) { return names(pattern, name); });
}

}  // namespace

bool has_ports(std::uint8_t protocol) {
  return protocol == kTcp || protocol == kUdp || protocol == kUdpLite || protocol == kDccp ||
         protocol == kSctp;
}

const std::vector<std::string>& interfaces_of(const GuardConfig& guard, const GuardRule& rule) {
  return rule.interfaces ? *rule.interfaces : guard.interfaces;
}

bool looks_at_ingress(const GuardConfig& guard, const PacketView& packet) {
  return on_interface(guard.interfaces, packet) ||
         std::ranges::any_of(guard.rules, [&](const GuardRule& rule) {
           return rule.direction != GuardDirection::egress &&
                  on_interface(interfaces_of(guard, rule), packet);
         });
}

RuleMismatch mismatch(const GuardConfig& guard, const GuardRule& rule, const PacketView& packet) {
  if (!of_direction(rule.direction, packet.egress)) return RuleMismatch::direction;
  if (!on_interface(interfaces_of(guard, rule), packet)) return RuleMismatch::interface;
  if (rule.protocol) {
    if (of_other_version(*rule.protocol, packet.from.is_v4())) return RuleMismatch::ip_version;
    if (*rule.protocol != packet.protocol) return RuleMismatch::protocol;
  }
  const RuleMismatch match = mismatch(rule.match, packet);
  if (match != RuleMismatch::none) return match;
  const bool excepted = !rule.except.empty() && mismatch(rule.except, packet) == RuleMismatch::none;
  return excepted ? RuleMismatch::except : RuleMismatch::none;
}

GuardVerdict evaluate(const GuardConfig& guard, const PacketView& packet) {
  GuardVerdict verdict;
  for (std::uint32_t i = 0; i < guard.rules.size(); ++i) {
    const GuardRule& rule = guard.rules[i];
    if (mismatch(guard, rule, packet) != RuleMismatch::none) continue;
    verdict.matching.push_back(i);
    const bool enforced = guard.mode == GuardMode::enforce && rule.mode == GuardMode::enforce;
    if (rule.action == GuardAction::drop && enforced && !verdict.dropped_by) {
      verdict.dropped_by = i;
    }
  }
  return verdict;
}

}  // namespace sluice::policy
