#include "policy/limits_rate.h"

#include <algorithm>
#include <array>
#include <bit>

#include "policy/spin_lock.h"

namespace sluice::policy {

namespace {

constexpr std::size_t kEntriesPerBucket = 7;
constexpr std::size_t kLastPlaces = 2;  // of a bucket, which are kept for who has no other
constexpr std::size_t kOverflowCells = 4096;
constexpr std::uint64_t kBucketsLookedAt = 32768;   // for stats()
constexpr std::uint64_t kBusy = ~std::uint64_t{0};  // an entry that changes hands

// A cell that nobody owns: a plain compare-and-swap loop.
LimitVerdict admit_cell(const GcraParameters& gcra, std::atomic<std::uint64_t>& cell,
                        std::uint64_t now_ns, std::uint64_t cost) {
  std::uint64_t tat = cell.load(std::memory_order_relaxed);
  for (;;) {
    const GcraStep step = gcra_step(gcra, tat, now_ns, cost);
    if (!step.allowed || cell.compare_exchange_weak(tat, step.tat, std::memory_order_relaxed)) {
      return gcra_verdict(gcra, step, now_ns, cost);
    }
  }
}

// Entries that a new key may have.
template <typename Bucket>
std::size_t room_in(const Bucket& bucket, std::uint64_t now_ns) {
  return static_cast<std::size_t>(std::ranges::count_if(bucket.entries, [&](const auto& entry) {
    return entry.tat.load(std::memory_order_relaxed) <= now_ns;
  }));
}

void store_max(std::atomic<std::uint64_t>& target, std::uint64_t value) {
  if (target.load(std::memory_order_relaxed) < value) {
    target.store(value, std::memory_order_relaxed);
  }
}

}  // namespace

GcraParameters GcraParameters::of(const Limit& limit) {
  const auto period = static_cast<std::uint64_t>(limit.rate_period.count());
  const std::uint64_t count = std::max<std::uint64_t>(limit.rate_count, 1);
  const std::uint64_t interval = std::max<std::uint64_t>((period + count - 1) / count, 1);
  const std::uint64_t burst = std::max<std::uint64_t>(limit.burst ? limit.burst : count, 1);
  const auto delay = static_cast<std::uint64_t>(limit.max_delay.count());
  return {interval, interval * burst, limit.action == LimitAction::delay ? delay : 0};
}

// Virtual scheduling: the request belongs at max(tat, now), and takes `cost` emission intervals.
GcraStep gcra_step(const GcraParameters& gcra, std::uint64_t tat, std::uint64_t now_ns,
                   std::uint64_t cost) {
  const std::uint64_t next = std::max(tat, now_ns) + gcra.emission_interval * cost;
  return {next - now_ns <= gcra.tolerance + gcra.max_delay, next};
}

std::uint64_t gcra_settle(const GcraParameters& gcra, std::uint64_t tat, std::uint64_t now_ns,
                          std::uint64_t estimated, std::uint64_t used) {
  constexpr std::uint64_t kMost = 366UL * 24 * 3600 * 1'000'000'000;  // and no product overflows
  const std::uint64_t cap = kMost / gcra.emission_interval;
  const std::uint64_t back = gcra.emission_interval * std::min(estimated, cap);
  const std::uint64_t more = gcra.emission_interval * std::min(used, cap);
  if (more > back) return std::max(tat, now_ns) + (more - back);
  const std::uint64_t floor = std::min(tat, now_ns);
  return tat - floor > back - more ? tat - (back - more) : floor;
}

LimitVerdict gcra_verdict(const GcraParameters& gcra, const GcraStep& step, std::uint64_t now_ns,
                          std::uint64_t cost) {
  const std::uint64_t ahead = step.tat - now_ns;
  LimitVerdict verdict;
  verdict.allowed = step.allowed;
  if (!step.allowed) {
    verdict.retry_after_ns = ahead - gcra.tolerance - gcra.max_delay;
    verdict.reset_ns = ahead - gcra.emission_interval * cost;
    return verdict;
  }
  verdict.reset_ns = ahead;
  if (ahead > gcra.tolerance) {
    verdict.delay_ns = ahead - gcra.tolerance;
  } else {
    verdict.remaining = (gcra.tolerance - ahead) / gcra.emission_interval;
  }
  return verdict;
}

// Who owns an entry (`tag`) changes only while `tat` is kBusy, and `tat` is never less
// than when it was given away. So whoever reads `tat`, then `tag`, and then swaps that very `tat`, knows that the entry was that
// tag's all the while.
struct LimitTable::Entry {
  std::atomic<std::uint64_t> tat{0};
  std::atomic<std::uint64_t> tag{0};
};

// Locked while an entry is given away.
struct alignas(64) LimitTable::Bucket : SpinLock {
  // The latest TAT given away here. A new entry starts no earlier, in case it is the same key, seen
  // by a thread whose clock is behind that of the thread which gave it away.
  std::atomic<std::uint64_t> floor{0};
  std::array<Entry, kEntriesPerBucket> entries;
};

LimitTable::LimitTable(const GcraParameters& parameters, std::size_t entries)
    : parameters_(parameters),
      overflow_cells_(std::make_unique<std::atomic<std::uint64_t>[]>(kOverflowCells)) {
  const std::size_t wanted = (entries + kEntriesPerBucket - 1) / kEntriesPerBucket;
  const std::size_t count = std::bit_ceil(std::max<std::size_t>(wanted, 2));
  buckets_ = std::make_unique<Bucket[]>(count);
  mask_ = count - 1;
}

LimitTable::~LimitTable() = default;

LimitTable::Bucket& LimitTable::bucket(std::uint64_t hash) const noexcept {
  return buckets_[hash & mask_];
}

LimitVerdict LimitTable::admit(const LimitKeys& keys, std::uint64_t now_ns,
                               std::uint64_t cost) noexcept {
  const Request request{keys.own == 0 ? 1 : keys.own, now_ns, cost};  // 0 is nobody's
  Bucket& first = bucket(request.tag);
  Bucket& second = bucket(request.tag >> 32);
  LimitVerdict verdict;
  if (admit_known(first, request, verdict)) return verdict;
  if (&second != &first && admit_known(second, request, verdict)) return verdict;
  if (admit_new(first, second, request, verdict)) return verdict;
  overflow_count_.fetch_add(1, std::memory_order_relaxed);
  return admit_cell(parameters_, overflow_cells_[keys.overflow % kOverflowCells], now_ns, cost);
}

// Its entry may be another's by now: only where its time was over, and then there is nothing to give
// back; what it took beyond is taken of the new one's share, or of the network's.
void LimitTable::settle(const LimitKeys& keys, std::uint64_t now_ns, std::uint64_t estimated,
                        std::uint64_t used) noexcept {
  const std::uint64_t tag = keys.own == 0 ? 1 : keys.own;
  for (Bucket* in : {&bucket(tag), &bucket(tag >> 32)}) {
    for (Entry& entry : in->entries) {
      std::uint64_t tat = entry.tat.load(std::memory_order_acquire);
      while (tat != kBusy && entry.tag.load(std::memory_order_acquire) == tag) {
        const std::uint64_t next = gcra_settle(parameters_, tat, now_ns, estimated, used);
        if (entry.tat.compare_exchange_weak(tat, next, std::memory_order_acq_rel)) return;
      }
    }
  }
  if (used <= estimated) return;
  std::atomic<std::uint64_t>& cell = overflow_cells_[keys.overflow % kOverflowCells];
  std::uint64_t tat = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(tat, gcra_settle(parameters_, tat, now_ns, estimated, used),
                                     std::memory_order_relaxed)) {
  }
}

LimitVerdict LimitTable::peek(const LimitKeys& keys, std::uint64_t now_ns,
                              std::uint64_t cost) const noexcept {
  const std::uint64_t tag = keys.own == 0 ? 1 : keys.own;
  std::uint64_t tat = 0;
  for (const Bucket* in : {&bucket(tag), &bucket(tag >> 32)}) {
    for (const Entry& entry : in->entries) {
      const std::uint64_t seen = entry.tat.load(std::memory_order_acquire);
      if (seen != kBusy && entry.tag.load(std::memory_order_acquire) == tag) {
        tat = std::max(tat, seen);
      }
    }
  }
  return gcra_verdict(parameters_, gcra_step(parameters_, tat, now_ns, cost), now_ns, cost);
}

bool LimitTable::admit_known(Bucket& in, const Request& request, LimitVerdict& verdict) noexcept {
  for (Entry& entry : in.entries) {
    std::uint64_t tat = entry.tat.load(std::memory_order_acquire);
    while (tat != kBusy && entry.tag.load(std::memory_order_acquire) == request.tag) {
      const GcraStep step = gcra_step(parameters_, tat, request.now_ns, request.cost);
      if (!step.allowed ||
          entry.tat.compare_exchange_weak(tat, step.tat, std::memory_order_acq_rel)) {
        verdict = gcra_verdict(parameters_, step, request.now_ns, request.cost);
        return true;
      }
    }
  }
  return false;
}

bool LimitTable::admit_new(Bucket& first, Bucket& second, const Request& request,
                           LimitVerdict& verdict) noexcept {
  // Both buckets, in one order for everybody: one key is never given two entries.
  const LockPair locked(first, second);
  const std::uint64_t floor = std::max(first.floor.load(std::memory_order_relaxed),
                                       second.floor.load(std::memory_order_relaxed));
  if (admit_known(first, request, verdict) || admit_known(second, request, verdict)) return true;
  // Into the emptier one once the first is nearly full: so nearly all of the table fills before a
  // key finds no place, and most keys are where they are looked for first.
  const std::size_t room = room_in(first, request.now_ns);
  const bool turned = room <= kLastPlaces && room_in(second, request.now_ns) > room;
  return claim(turned ? second : first, request, floor, verdict) ||
         claim(turned ? first : second, request, floor, verdict);
}

bool LimitTable::claim(Bucket& in, const Request& request, std::uint64_t floor,
                       LimitVerdict& verdict) noexcept {
  for (Entry& entry : in.entries) {
    std::uint64_t tat = entry.tat.load(std::memory_order_acquire);
    if (tat > request.now_ns ||
        !entry.tat.compare_exchange_strong(tat, kBusy, std::memory_order_acq_rel)) {
      continue;
    }
    store_max(in.floor, tat);
    const std::uint64_t start = std::max(floor, tat);
    const GcraStep step = gcra_step(parameters_, start, request.now_ns, request.cost);
    verdict = gcra_verdict(parameters_, step, request.now_ns, request.cost);
    entry.tag.store(request.tag, std::memory_order_release);
    entry.tat.store(step.allowed ? step.tat : std::max(start, request.now_ns),
                    std::memory_order_release);
    return true;
  }
  return false;
}

std::vector<CarriedCell> LimitTable::live_keys(std::uint64_t now_ns, std::size_t most) const {
  std::vector<CarriedCell> out;
  for (std::uint64_t i = 0; i <= mask_; ++i) {
    for (const Entry& entry : buckets_[i].entries) {
      const std::uint64_t tat = entry.tat.load(std::memory_order_acquire);
      const std::uint64_t tag = entry.tag.load(std::memory_order_acquire);
      if (tat <= now_ns || tat == kBusy || tag == 0) continue;
      if (out.size() >= most) return out;
      out.push_back({tag, tat});
    }
  }
  return out;
}

std::vector<CarriedCell> LimitTable::live_overflow(std::uint64_t now_ns) const {
  std::vector<CarriedCell> out;
  for (std::uint64_t i = 0; i < kOverflowCells; ++i) {
    const std::uint64_t tat = overflow_cells_[i].load(std::memory_order_relaxed);
    if (tat > now_ns) out.push_back({i, tat});
  }
  return out;
}

void LimitTable::take_over(const std::vector<CarriedCell>& keys,
                           const std::vector<CarriedCell>& overflow) {
  for (const CarriedCell& cell : keys) {
    Bucket* in = &bucket(cell.place);
    Bucket& other = bucket(cell.place >> 32);
    if (room_in(other, 0) > room_in(*in, 0)) in = &other;
    const auto place = std::ranges::find_if(in->entries, [](const Entry& entry) {
      return entry.tag.load(std::memory_order_relaxed) == 0;
    });
    if (place == in->entries.end()) continue;
    place->tag.store(cell.place, std::memory_order_release);
    place->tat.store(std::min(cell.tat, kBusy - 1), std::memory_order_release);
  }
  for (const CarriedCell& cell : overflow)
    store_max(overflow_cells_[cell.place % kOverflowCells], cell.tat);
}

// Hashes are spread evenly: of a large table a part tells enough.
LimitTableStats LimitTable::stats(std::uint64_t now_ns) const noexcept {
  LimitTableStats stats;
  stats.entries = (mask_ + 1) * kEntriesPerBucket;
  stats.overflow = overflow_count_.load(std::memory_order_relaxed);
  const std::uint64_t looked_at = std::min<std::uint64_t>(mask_ + 1, kBucketsLookedAt);
  for (std::uint64_t i = 0; i < looked_at; ++i) {
    for (const Entry& entry : buckets_[i].entries) {
      if (entry.tat.load(std::memory_order_relaxed) > now_ns) ++stats.live;
    }
  }
  stats.live = stats.live * (mask_ + 1) / looked_at;
  return stats;
}

}  // namespace sluice::policy
