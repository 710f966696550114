// The typed form of `access`, on listeners and routes.
#pragma once

#include <optional>
#include <vector>

#include "policy/address.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// Who: each field that is set must hold.
struct AccessSource {
  std::optional<Prefix> cidr;
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
