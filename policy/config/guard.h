// The typed form of `guard`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class GuardAction { drop, count };
enum class GuardAttach { tc };

struct GuardMatch {
  std::vector<Prefix> from;
  std::vector<Prefix> to;
  std::vector<PortRange> from_ports;
  std::vector<PortRange> to_ports;
};

struct GuardRule {
  std::string name;  // given, or made from the rule's place; unique
  GuardMatch match;
  GuardMatch except;
  std::optional<std::uint8_t> protocol;  // IANA number
  GuardAction action = GuardAction::drop;
  Location where;
};

struct GuardConfig {
  std::vector<std::string> interfaces;  // empty: auto (those with a default route); names and globs
  GuardAttach attach = GuardAttach::tc;
  bool first = true;  // position
  std::vector<GuardRule> rules;
};

}  // namespace sluice::policy
