// On which interface and in which direction a rule holds, and so where the guard must hang: pure.
#pragma once

#include <concepts>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/guard_classes.h"
#include "kernel/interfaces.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// The rules that hold in that direction, of those that `here` says hold on the interface.
template <std::predicate<const GuardRule&> Here>
sluice_guard_class place_class(const std::vector<GuardRule>& rules, bool egress, Here here) {
  RuleBits bits;
  const auto other = egress ? GuardDirection::ingress : GuardDirection::egress;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].direction != other && here(rules[i])) RuleBits::set(bits.match, i);
    if (has_exception(rules[i])) RuleBits::set(bits.except, i);
  }
  return to_class(bits);
}

struct GuardPlaces {
  using Entry = std::pair<sluice_guard_place_key, sluice_guard_class>;

  std::vector<Interface> ingress;  // where the guard hangs
  std::vector<Interface> egress;
  std::vector<Entry> entries;  // of interfaces, when some rule names its own; slot 0 in the keys
};

// Bans and SYN rates hold wherever the guard hangs for ingress.
GuardPlaces find_places(const GuardPlan& plan, const NodeNetwork& network);

}  // namespace sluice::kernel
