#include "policy/limits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <thread>

namespace sluice::policy {

namespace {

constexpr std::size_t kEntriesPerBucket = 7;
constexpr std::size_t kOverflowCells = 4096;
constexpr std::uint64_t kBusy = ~std::uint64_t{0};  // an entry that changes hands
constexpr int kOverflowV4Bits = 24;
constexpr int kOverflowV6Bits = 48;

struct Step {
  bool allowed;
  std::uint64_t tat;  // the new one
};

// GCRA, virtual scheduling: the request belongs at max(tat, now), and takes one emission interval.
Step advance(const GcraParameters& gcra, std::uint64_t tat, std::uint64_t now_ns) {
  const std::uint64_t next = std::max(tat, now_ns) + gcra.emission_interval;
  return {next - now_ns <= gcra.tolerance, next};
}

LimitVerdict describe(const GcraParameters& gcra, const Step& step, std::uint64_t now_ns) {
  const std::uint64_t ahead = step.tat - now_ns;
  if (step.allowed) return {true, (gcra.tolerance - ahead) / gcra.emission_interval, 0, ahead};
  return {false, 0, ahead - gcra.tolerance, ahead - gcra.emission_interval};
}

// A cell that nobody owns: a plain compare-and-swap loop.
LimitVerdict admit_cell(const GcraParameters& gcra, std::atomic<std::uint64_t>& cell,
                        std::uint64_t now_ns) {
  std::uint64_t tat = cell.load(std::memory_order_relaxed);
  for (;;) {
    const Step step = advance(gcra, tat, now_ns);
    if (!step.allowed || cell.compare_exchange_weak(tat, step.tat, std::memory_order_relaxed)) {
      return describe(gcra, step, now_ns);
    }
  }
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
  return {interval, interval * burst};
}

// Who owns an entry (`tag`) changes only while `tat` is kBusy, and `tat` only ever grows otherwise.
// So whoever reads `tat`, then `tag`, and then swaps that very `tat`, knows that the entry was that
// tag's all the while.
struct LimitTable::Entry {
  std::atomic<std::uint64_t> tat{0};
  std::atomic<std::uint64_t> tag{0};
};

struct alignas(64) LimitTable::Bucket {
  std::atomic<bool> locked{false};  // held while an entry is given away
  // The latest TAT given away here. A new entry starts no earlier, in case it is the same key, seen
  // by a thread whose clock is behind that of the thread which gave it away.
  std::atomic<std::uint64_t> floor{0};
  std::array<Entry, kEntriesPerBucket> entries;

  void lock() {
    while (locked.exchange(true, std::memory_order_acquire))
      std::this_thread::yield();
  }
  void unlock() { locked.store(false, std::memory_order_release); }
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

LimitVerdict LimitTable::admit(std::uint64_t key, std::uint64_t overflow_key,
                               std::uint64_t now_ns) noexcept {
  const std::uint64_t tag = key == 0 ? 1 : key;  // 0 is nobody's
  Bucket& first = bucket(tag);
  Bucket& second = bucket(tag >> 32);
  LimitVerdict verdict;
  if (admit_known(first, tag, now_ns, verdict)) return verdict;
  if (&second != &first && admit_known(second, tag, now_ns, verdict)) return verdict;
  if (admit_new(first, second, tag, now_ns, verdict)) return verdict;
  overflow_count_.fetch_add(1, std::memory_order_relaxed);
  return admit_cell(parameters_, overflow_cells_[overflow_key % kOverflowCells], now_ns);
}

bool LimitTable::admit_known(Bucket& in, std::uint64_t tag, std::uint64_t now_ns,
                             LimitVerdict& verdict) noexcept {
  for (Entry& entry : in.entries) {
    std::uint64_t tat = entry.tat.load(std::memory_order_acquire);
    while (tat != kBusy && entry.tag.load(std::memory_order_acquire) == tag) {
      const Step step = advance(parameters_, tat, now_ns);
      if (!step.allowed ||
          entry.tat.compare_exchange_weak(tat, step.tat, std::memory_order_acq_rel)) {
        verdict = describe(parameters_, step, now_ns);
        return true;
      }
    }
  }
  return false;
}

bool LimitTable::admit_new(Bucket& first, Bucket& second, std::uint64_t tag, std::uint64_t now_ns,
                           LimitVerdict& verdict) noexcept {
  // Both buckets, in one order for everybody: one key is never given two entries.
  Bucket& low = &first < &second ? first : second;
  Bucket& high = &low == &first ? second : first;
  low.lock();
  if (&high != &low) high.lock();
  const std::uint64_t floor = std::max(low.floor.load(std::memory_order_relaxed),
                                       high.floor.load(std::memory_order_relaxed));
  const bool done =
      admit_known(first, tag, now_ns, verdict) || admit_known(second, tag, now_ns, verdict) ||
      claim(first, tag, now_ns, floor, verdict) || claim(second, tag, now_ns, floor, verdict);
  if (&high != &low) high.unlock();
  low.unlock();
  return done;
}

bool LimitTable::claim(Bucket& in, std::uint64_t tag, std::uint64_t now_ns, std::uint64_t floor,
                       LimitVerdict& verdict) noexcept {
  for (Entry& entry : in.entries) {
    std::uint64_t tat = entry.tat.load(std::memory_order_acquire);
    if (tat > now_ns || !entry.tat.compare_exchange_strong(tat, kBusy, std::memory_order_acq_rel)) {
      continue;
    }
    store_max(in.floor, tat);
    const std::uint64_t start = std::max(floor, tat);
    const Step step = advance(parameters_, start, now_ns);
    verdict = describe(parameters_, step, now_ns);
    entry.tag.store(tag, std::memory_order_release);
    entry.tat.store(step.allowed ? step.tat : std::max(start, now_ns), std::memory_order_release);
    return true;
  }
  return false;
}

LimitTableStats LimitTable::stats(std::uint64_t now_ns) const noexcept {
  LimitTableStats stats;
  stats.entries = (mask_ + 1) * kEntriesPerBucket;
  stats.overflow = overflow_count_.load(std::memory_order_relaxed);
  for (std::uint64_t i = 0; i <= mask_; ++i) {
    for (const Entry& entry : buckets_[i].entries) {
      if (entry.tat.load(std::memory_order_relaxed) > now_ns) ++stats.live;
    }
  }
  return stats;
}

LimitHandle::LimitHandle(const Limit& limit, std::shared_ptr<LimitTable> table, HashKey hash_key)
    : name_(limit.name),
      table_(std::move(table)),
      hash_key_(hash_key),
      burst_(table_->parameters().tolerance / table_->parameters().emission_interval),
      ipv6_prefix_(limit.ipv6_prefix),
      by_client_(std::ranges::find(limit.key, LimitKey::client_ip) != limit.key.end()),
      by_route_(std::ranges::find(limit.key, LimitKey::route) != limit.key.end()) {}

LimitVerdict LimitHandle::admit(const IpAddress& client, std::uint64_t route_id,
                                std::uint64_t now_ns) const noexcept {
  std::array<std::uint8_t, 24> input{};
  if (by_route_) {
    for (int i = 0; i < 8; ++i)
      input[16 + i] = static_cast<std::uint8_t>(route_id >> (8 * i));
  }
  const bool v4 = client.is_v4();
  if (by_client_) std::ranges::copy(client.masked(v4 ? 32 : ipv6_prefix_).bytes(), input.begin());
  const std::uint64_t key = siphash(hash_key_, input);
  if (by_client_) {
    std::ranges::copy(client.masked(v4 ? kOverflowV4Bits : kOverflowV6Bits).bytes(), input.begin());
  }
  return table_->admit(key, siphash({hash_key_.k1, hash_key_.k0}, input), now_ns);
}

LimitStore::LimitStore(HashKey hash_key, std::size_t entries_per_limit)
    : hash_key_(hash_key), entries_(entries_per_limit) {}

std::vector<LimitHandle> LimitStore::resolve(const std::vector<Limit>& limits) {
  std::map<std::string, Kept> kept;
  std::vector<LimitHandle> handles;
  handles.reserve(limits.size());
  for (const Limit& limit : limits) {
    const auto old = kept_.find(limit.name);
    const GcraParameters parameters = GcraParameters::of(limit);
    const bool same = old != kept_.end() && old->second.limit.key == limit.key &&
                      old->second.limit.ipv6_prefix == limit.ipv6_prefix &&
                      old->second.table->parameters() == parameters;
    auto table = same ? old->second.table : std::make_shared<LimitTable>(parameters, entries_);
    handles.emplace_back(limit, table, hash_key_);
    kept.insert_or_assign(limit.name, Kept{limit, std::move(table)});
  }
  kept_ = std::move(kept);
  return handles;
}

}  // namespace sluice::policy
