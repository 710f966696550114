// The fields of `access`, which listeners and routes have.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kAccessSource[] = {
    {.name = "cidr",
     .type = prefix,
     .example = "198.51.100.0/24",
     .doc = "The client's address is in this prefix."},
};
inline constexpr Field kAccess[] = {
    {.name = "allow",
     .shape = list,
     .example = "[10.0.0.0/8]",
     .children = kAccessSource,
     .shorthand = "cidr",
     .doc = "Where it has entries, only who one of them names may come in."},
    {.name = "deny",
     .shape = list,
     .example = "[198.51.100.0/24]",
     .children = kAccessSource,
     .shorthand = "cidr",
     .doc = "Who one of these names may not, whatever `allow` says."},
};

}  // namespace sluice::policy::fields
