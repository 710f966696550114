// Routes and rules that turn marked packets, and addresses of `local` entries, to this node. Ours
// are known by their protocol number, so that exactly ours are found again after a crash.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

inline constexpr std::uint8_t kRouteProtocol = 173;  // of routes and rules (rtnetlink's user range)

struct RoutingRule {
  bool v4 = true;
  std::uint32_t priority = 0;
  std::uint32_t mark = 0;
  std::uint32_t mask = 0;
  std::uint32_t table = 0;
  bool iif_lo = false;
  std::optional<Prefix> from{};
  auto operator<=>(const RoutingRule&) const = default;
};

// `local PREFIX dev lo` in a table.
struct LocalRoute {
  std::uint32_t table = 0;
  Prefix prefix;
  auto operator<=>(const LocalRoute&) const = default;
};

struct Routing {
  std::set<RoutingRule> rules;
  std::set<LocalRoute> routes;
  bool operator==(const Routing&) const = default;

  void merge_with(const Routing& other) {
    rules.insert(other.rules.begin(), other.rules.end());
    routes.insert(other.routes.begin(), other.routes.end());
  }
};

// What a plan needs, given the node's own addresses.
Routing routing_for(const Plan& plan, const std::vector<Prefix>& own_addresses);

// What of ours is there.
Result<Routing> read_routing();
// Adds what is missing, then removes what is too much. Returns how many were added.
Result<std::size_t> apply_routing(const Routing& wanted);

// Somebody else's rule that uses our mark's bits, table or priorities.
struct RuleClash {
  enum class Over : std::uint8_t { marks, table, priority };
  Over over = Over::marks;
  RoutingRule rule;
  std::string text;  // "ip rule pref 201 fwmark 0x200000/0xffff0000 lookup 77"
};
Result<std::vector<RuleClash>> rule_clashes(const Marks& marks);

// An error when somebody else's rules or routes use our mark's bits, table or priorities.
Result<void> check_marks_free(const Marks& marks);

// Removes all of ours; each line says what.
std::vector<std::string> remove_routing();

}  // namespace sluice::kernel
