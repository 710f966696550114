// Whether the table is still the one that we wrote.
#pragma once

#include <cstdint>

namespace sluice::kernel {

// Over everything in the table `inet sluice` but the leases, handles included: what was deleted and
// made again looks different. 0: there is no table.
std::uint64_t nft_table_digest();

// How many rules it has, which is cheaper to ask; -1: there is no table.
int count_nft_rules();

}  // namespace sluice::kernel
