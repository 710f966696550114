// What one policy changes in another, entry by entry, and which layer has to do with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

// One entry of a policy and its meaning in a number (places do not count).
struct Item {
  std::string section;  // "routes", "guard.rules"
  std::string name;     // "api"; entries without a name: what they are about
  std::uint64_t fingerprint = 0;
  Location where;
};
std::vector<Item> items_of(const Config& config);
// The sections whose entries mean something by their order, in the same sequence for every policy.
std::vector<Item> orders_of(const Config& config);

struct Change {
  enum class Kind { added, removed, changed };
  Kind kind = Kind::changed;
  std::string section;
  std::string name;
  std::string layer;  // who enforces it: "guard", "interception", "gateway", "guard, gateway"
  Location before;    // line 0: it was not there
  Location after;     // line 0: it is gone
};

// In the order of the new policy, then what is gone. Empty exactly when both mean the same.
std::vector<Change> changes(const Config& before, const Config& after);

}  // namespace sluice::policy
