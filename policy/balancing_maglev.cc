#include "policy/balancing_maglev.h"

#include <algorithm>

#include "policy/siphash.h"

namespace sluice::policy {

namespace {

constexpr HashKey kOffsetKey{0x736c756963652d6d, 0x61676c65762d6f66};
constexpr HashKey kSkipKey{0x736c756963652d6d, 0x61676c65762d736b};
constexpr HashKey kValueKey{0x736c756963652d6d, 0x61676c65762d7661};
constexpr std::uint16_t kFree = 0xffff;

// One endpoint's order of preference over the slots.
struct Permutation {
  std::uint32_t next = 0;
  std::uint32_t skip = 1;
  double weight = 1;  // of the heaviest's
  double taken = 0;   // slots
  std::uint16_t endpoint = 0;

  std::uint32_t take() {
    const std::uint32_t slot = next;
    next += skip;
    if (next >= MaglevTable::kSize) next -= MaglevTable::kSize;
    return slot;
  }
};

std::vector<Permutation> permutations(std::span<const MaglevTable::Entry> entries) {
  std::uint32_t heaviest = 0;
  for (const auto& entry : entries)
    heaviest = std::max(heaviest, entry.weight);
  // Whose turn is first settles who gets a slot that several want: that must not hang on the order
  // in which endpoints happen to be listed.
  std::vector<MaglevTable::Entry> sorted(entries.begin(), entries.end());
  std::ranges::sort(sorted, {}, &MaglevTable::Entry::name);
  std::vector<Permutation> made;
  for (const auto& entry : sorted) {
    if (entry.weight == 0 || entry.endpoint >= kFree) continue;
    made.push_back({
        .next = static_cast<std::uint32_t>(siphash(kOffsetKey, entry.name) % MaglevTable::kSize),
        .skip =
            static_cast<std::uint32_t>(siphash(kSkipKey, entry.name) % (MaglevTable::kSize - 1)) +
            1,
        .weight = static_cast<double>(entry.weight) / heaviest,
        .taken = 0,
        .endpoint = static_cast<std::uint16_t>(entry.endpoint),
    });
  }
  return made;
}

}  // namespace

MaglevTable::MaglevTable(std::span<const Entry> entries) {
  std::vector<Permutation> wanting = permutations(entries);
  if (wanting.empty()) return;
  slots_.assign(kSize, kFree);
  std::uint32_t filled = 0;
  for (std::uint64_t round = 1; filled < kSize; ++round) {
    for (Permutation& one : wanting) {
      // In each round the heaviest takes a slot, the others as often as their weight says.
      if (one.taken >= one.weight * static_cast<double>(round)) continue;
      one.taken += 1;
      std::uint32_t slot = one.take();
      while (slots_[slot] != kFree)
        slot = one.take();
      slots_[slot] = one.endpoint;
      if (++filled == kSize) return;
    }
  }
}

std::uint64_t balancing_hash(std::string_view value) {
  return siphash(kValueKey, value);
}

}  // namespace sluice::policy
