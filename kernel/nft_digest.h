// Whether the table is still the one that we wrote.
#pragma once

#include <cstdint>

#include "kernel/nft_batch.h"

namespace sluice::kernel {

// Over everything in the table `inet sluice` but the leases, handles included: what was deleted and
// made again looks different. 0: there is no table.
std::uint64_t nft_table_digest();

// How many rules it, or another table of ours, has, which is cheaper to ask; -1: there is no table.
int count_nft_rules(const char* table = kNftTable);

// What the counters of a chain's rules have counted together.
struct NftCount {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  NftCount& operator+=(const NftCount& more) {
    packets += more.packets;
    bytes += more.bytes;
    return *this;
  }
};
NftCount nft_count_of(const char* table, const char* chain);

}  // namespace sluice::kernel
