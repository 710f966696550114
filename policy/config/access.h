// The typed form of `access`, on listeners and routes.
#pragma once

#include <optional>
#include <vector>

#include "policy/address.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// Who: one of them is there.
struct AccessSource {
  std::optional<Prefix> cidr;
  std::optional<SetReference> set;
  Location where;
};

// A source that `deny` names is refused; where `allow` has entries, so is one that it does not
// name.
struct AccessRules {
  std::vector<AccessSource> allow;
  std::vector<AccessSource> deny;

  bool empty() const { return allow.empty() && deny.empty(); }
};

}  // namespace sluice::policy
