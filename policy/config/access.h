// The typed form of `access`, on listeners and routes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// On what is known of an authenticated caller.
struct ClaimMatch {
  enum class Kind { present, exact, has, regex };
  std::string name;
  Kind kind = Kind::present;
  std::string value;  // has: one element of a list
  bool operator==(const ClaimMatch&) const = default;
};

// Who: one of them is there.
struct AccessSource {
  std::optional<Prefix> cidr;
  std::optional<SetReference> set;
  std::string identity;  // a name of its certificate; a `*` at one end stands for anything
  std::optional<ClaimMatch> claim;
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
