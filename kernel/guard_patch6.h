// IPv6 prefixes of sets that changed in few places: their entries, and those that they cover, are
// put into the tables that are there. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/guard_prefixes.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// `changed`: prefixes that `rules` name and did not, or named and do not, in sets. False: they
// cover too much, or the tables have no room; `tables` is of no use then. What an entry leaves
// behind in bitmaps when it goes costs packets a look more; a whole compilation clears it now and
// then.
bool patch_prefixes6(const std::vector<GuardRule>& rules, const AddressField& field,
                     const std::vector<Prefix>& changed, CoveringSets& sets, PrefixTables& tables);

}  // namespace sluice::kernel
