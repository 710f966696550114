#include "policy/limits_concurrency.h"

#include <algorithm>
#include <array>
#include <bit>

#include "policy/spin_lock.h"

namespace sluice::policy {

namespace {

constexpr std::size_t kEntriesPerBucket = 7;
constexpr std::size_t kOverflowCells = 4096;
constexpr std::uint64_t kBucketsLookedAt = 32768;  // for stats()

}  // namespace

// The tag changes only under the locks of both buckets of the key, and only while the count is 0:
// nobody holds the entry then.
struct ConcurrencyTable::Entry {
  std::uint64_t tag = 0;
  Count count{0};
};

struct alignas(64) ConcurrencyTable::Bucket : SpinLock {
  std::array<Entry, kEntriesPerBucket> entries;
};

ConcurrencyTable::ConcurrencyTable(std::size_t entries)
    : overflow_cells_(std::make_unique<Count[]>(kOverflowCells)) {
  const std::size_t wanted = (entries + kEntriesPerBucket - 1) / kEntriesPerBucket;
  const std::size_t count = std::bit_ceil(std::max<std::size_t>(wanted, 2));
  buckets_ = std::make_unique<Bucket[]>(count);
  mask_ = count - 1;
}

ConcurrencyTable::~ConcurrencyTable() = default;

// Only additions are under the locks; a subtraction in between only makes room.
ConcurrencyTable::Count* ConcurrencyTable::acquire(const LimitKeys& keys,
                                                   std::uint32_t max) noexcept {
  const std::uint64_t tag = keys.own == 0 ? 1 : keys.own;
  Bucket& first = buckets_[tag & mask_];
  Bucket& second = buckets_[(tag >> 32) & mask_];
  const LockPair locked(first, second);
  if (Count* count = find_or_claim(first, second, tag)) {
    if (count->load(std::memory_order_acquire) >= max) return nullptr;
    count->fetch_add(1, std::memory_order_relaxed);
    return count;
  }
  overflow_count_.fetch_add(1, std::memory_order_relaxed);
  Count& shared = overflow_cells_[keys.overflow % kOverflowCells];
  std::uint32_t now = shared.load(std::memory_order_relaxed);
  while (now < max && !shared.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) {
  }
  return now < max ? &shared : nullptr;
}

ConcurrencyTable::Count* ConcurrencyTable::find_or_claim(Bucket& first, Bucket& second,
                                                         std::uint64_t tag) noexcept {
  // In the emptier one, as rates do.
  Entry* free = nullptr;
  std::size_t most = 0;
  for (Bucket* in : {&first, &second}) {
    Entry* here = nullptr;
    std::size_t room = 0;
    for (Entry& entry : in->entries) {
      if (entry.tag == tag) return &entry.count;
      if (entry.count.load(std::memory_order_acquire) != 0) continue;
      here = &entry;
      ++room;
    }
    if (room > most) {
      free = here;
      most = room;
    }
  }
  if (free == nullptr) return nullptr;
  free->tag = tag;
  return &free->count;
}

std::uint32_t ConcurrencyTable::held(const LimitKeys& keys) const noexcept {
  const std::uint64_t tag = keys.own == 0 ? 1 : keys.own;
  Bucket& first = buckets_[tag & mask_];
  Bucket& second = buckets_[(tag >> 32) & mask_];
  const LockPair locked(first, second);
  bool room = false;
  for (Bucket* in : {&first, &second}) {
    for (const Entry& entry : in->entries) {
      const std::uint32_t count = entry.count.load(std::memory_order_acquire);
      if (entry.tag == tag) return count;
      room = room || count == 0;
    }
  }
  return room ? 0 : overflow_cells_[keys.overflow % kOverflowCells].load(std::memory_order_relaxed);
}

// Hashes are spread evenly: of a large table a part tells enough.
LimitTableStats ConcurrencyTable::stats() const noexcept {
  LimitTableStats stats;
  stats.entries = (mask_ + 1) * kEntriesPerBucket;
  stats.overflow = overflow_count_.load(std::memory_order_relaxed);
  const std::uint64_t looked_at = std::min<std::uint64_t>(mask_ + 1, kBucketsLookedAt);
  for (std::uint64_t i = 0; i < looked_at; ++i) {
    for (const Entry& entry : buckets_[i].entries) {
      if (entry.count.load(std::memory_order_relaxed) > 0) ++stats.live;
    }
  }
  stats.live = stats.live * (mask_ + 1) / looked_at;
  return stats;
}

}  // namespace sluice::policy
