#include "kernel/guard_places.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <unordered_set>

namespace sluice::kernel {
namespace {

// In the order of the node's interfaces.
class Selection {
 public:
  Selection() = default;
  Selection(const NodeNetwork& network, const std::vector<std::string>& patterns) {
    for (const Interface& interface : select_interfaces(network, patterns))
      indexes_.insert(interface.index);
  }
  bool has(const Interface& interface) const { return indexes_.contains(interface.index); }
  void join(const Selection& other) {
    indexes_.insert(other.indexes_.begin(), other.indexes_.end());
  }
  std::vector<Interface> list(const NodeNetwork& network) const {
    std::vector<Interface> out;
    std::ranges::copy_if(network.interfaces, std::back_inserter(out),
                         [this](const Interface& interface) { return has(interface); });
    return out;
  }

 private:
  std::unordered_set<unsigned> indexes_;
};

}  // namespace

GuardPlaces find_places(const GuardPlan& plan, const NodeNetwork& network) {
  GuardPlaces out;
  if (!plan.enabled) return out;
  const Selection everywhere(network, plan.interfaces);
  std::map<std::vector<std::string>, Selection> named;  // rules share their lists
  const auto of_rule = [&](const GuardRule& rule) -> const Selection& {
    if (!rule.interfaces) return everywhere;
    const auto [at, added] = named.try_emplace(*rule.interfaces);
    if (added) at->second = Selection(network, *rule.interfaces);
    return at->second;
  };
  Selection ingress = everywhere;
  Selection egress;
  for (const GuardRule& rule : plan.rules) {
    if (rule.direction != GuardDirection::egress) ingress.join(of_rule(rule));
    if (rule.direction != GuardDirection::ingress) egress.join(of_rule(rule));
  }
  out.ingress = ingress.list(network);
  out.egress = egress.list(network);
  if (named.empty()) return out;
  for (const bool outward : {false, true}) {
    for (const Interface& interface : outward ? out.egress : out.ingress) {
      const auto direction = static_cast<std::uint16_t>(outward ? 1 : 0);
      out.entries.emplace_back(sluice_guard_place_key{interface.index, 0, direction},
                               place_class(plan.rules, outward, [&](const GuardRule& rule) {
                                 return of_rule(rule).has(interface);
                               }));
    }
  }
  return out;
}

}  // namespace sluice::kernel
