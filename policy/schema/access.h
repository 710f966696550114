// The fields of `access`, which listeners and routes have.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kAccess[] = {
    {.name = "allow",
     .shape = list,
     .example = "[10.0.0.0/8]",
     .children = kAddresses,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Where it has entries, only who one of them names may come in: prefixes, or { set: NAME }."},
    {.name = "deny",
     .shape = list,
     .example = "[198.51.100.0/24]",
     .children = kAddresses,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Who one of these names may not, whatever `allow` says."},
};

}  // namespace sluice::policy::fields
