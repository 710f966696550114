#include "policy/limits_cluster.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "policy/spin_lock.h"

namespace sluice::policy {

namespace {

constexpr std::size_t kEntriesPerBucket = 4;
constexpr std::uint64_t kBucketsLookedAt = 32768;  // for stats()
constexpr std::uint64_t kSecond = 1'000'000'000;
// A network's shared key, so that it is never one client's.
constexpr std::uint64_t kOverflowMark = 0x6f766572666c6f77;

bool is_away(std::uint32_t epoch) {
  return (epoch & 1) != 0;
}

}  // namespace

// All under the locks of both buckets of the key.
struct ClusterTable::Entry {
  std::uint64_t tag = 0;
  std::uint64_t lease_ends = 0;  // kLeaseTime after Redis' last answer
  std::uint64_t ask_again = 0;   // not before
  std::uint64_t last_used = 0;
  std::uint64_t tat = 0;        // of the share, while Redis is away; else as Redis decided last
  std::uint32_t leased = 0;     // requests left
  std::uint32_t used = 0;       // or wanted, since Redis was last asked
  std::uint32_t wanted = 0;     // in the lease under way
  std::uint32_t charged = 0;    // let in before anything was leased
  std::uint32_t asked_in = 0;   // epoch of the lease under way; 0: none
  std::uint32_t alone_in = 0;   // epoch in which `tat` was begun; 0: never
  bool known = false;           // Redis has answered for this key …
  bool in_full = false;         // … with all that was asked for
  std::uint32_t granted = 0;    // … which was so many

  // The share is over, and nothing says that the rate is used up.
  bool begins_anew(std::uint64_t now_ns) const {
    return !known || (now_ns >= lease_ends && in_full);
  }
  // Unused for so long that Redis' last answer says nothing any more.
  bool comes_back(std::uint64_t now_ns) const {
    return known && now_ns >= lease_ends && last_used + ClusterTable::kLeaseTime < now_ns;
  }
  bool idle(std::uint64_t now_ns) const {
    return tag == 0 || (last_used + kLeaseTime < now_ns && tat < now_ns);
  }
};

struct alignas(64) ClusterTable::Bucket : SpinLock {
  std::array<Entry, kEntriesPerBucket> entries;
};

ClusterTable::ClusterTable(std::string name, const GcraParameters& parameters, OnLoss on_loss,
                           std::size_t entries, bool alone)
    : name_(std::move(name)), parameters_(parameters), on_loss_(on_loss) {
  if (!alone) {
    chunk_ = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(kChunkTime / parameters_.emission_interval, 1U << 30));
  }
  const std::size_t wanted = (entries + kEntriesPerBucket - 1) / kEntriesPerBucket;
  const std::size_t count = std::bit_ceil(std::max<std::size_t>(wanted, 2));
  buckets_ = std::make_unique<Bucket[]>(count);
  mask_ = count - 1;
}

ClusterTable::~ClusterTable() = default;

ClusterTable::Entry* ClusterTable::find(Bucket& in, std::uint64_t tag) const noexcept {
  const auto found = std::ranges::find(in.entries, tag, &Entry::tag);
  return found == in.entries.end() ? nullptr : &*found;
}

ClusterTable::Entry* ClusterTable::place_for(Bucket& first, Bucket& second, std::uint64_t tag,
                                             std::uint64_t now_ns) noexcept {
  if (Entry* known = find(first, tag)) return known;
  if (Entry* known = find(second, tag)) return known;
  // In the emptier one, as rates of one node do.
  const auto idle = [&](const Entry& entry) { return entry.idle(now_ns); };
  const bool turned =
      std::ranges::count_if(second.entries, idle) > std::ranges::count_if(first.entries, idle);
  Bucket& in = turned ? second : first;
  const auto place = std::ranges::find_if(in.entries, idle);
  if (place == in.entries.end()) return nullptr;
  *place = Entry{};
  place->tag = tag;
  return &*place;
}

ClusterVerdict ClusterTable::admit(const LimitKeys& keys, std::uint64_t now_ns, std::uint32_t cost,
                                   bool decided_here) noexcept {
  const bool away = decided_here || is_away(epoch_.load(std::memory_order_acquire));
  ClusterVerdict result;
  result.key = keys.own == 0 ? 1 : keys.own;
  if (away && on_loss_ == OnLoss::deny) {
    result.verdict = {.allowed = false, .retry_after_ns = kSecond, .reset_ns = kSecond};
    return result;
  }
  if (!away && chunk_ == 0) {
    result.decide = true;
    return result;
  }
  for (const std::uint64_t tag : {result.key, (keys.overflow ^ kOverflowMark) | 1}) {
    Bucket& first = buckets_[tag & mask_];
    Bucket& second = buckets_[(tag >> 32) & mask_];
    const LockPair locked(first, second);
    Entry* entry = place_for(first, second, tag, now_ns);
    if (entry == nullptr) continue;
    if (tag != result.key) overflow_count_.fetch_add(1, std::memory_order_relaxed);
    const bool stale = entry->comes_back(now_ns) && !entry->begins_anew(now_ns);
    entry->last_used = now_ns;
    if (!away && stale) {
      result.decide = true;
      return result;
    }
    if (away) {
      result.verdict = admit_alone(*entry, now_ns, cost);
      return result;
    }
    result = admit_leased(*entry, now_ns, cost);
    result.key = tag;
    return result;
  }
  // Not even the network has a place: only while every entry of four buckets is in use.
  overflow_count_.fetch_add(1, std::memory_order_relaxed);
  result.verdict = {.allowed = false, .retry_after_ns = kSecond, .reset_ns = kSecond};
  return result;
}

ClusterVerdict ClusterTable::admit_leased(Entry& entry, std::uint64_t now_ns,
                                          std::uint32_t cost) const noexcept {
  const std::uint32_t epoch = epoch_.load(std::memory_order_acquire);
  ClusterVerdict result;
  if (now_ns >= entry.lease_ends) entry.leased = 0;
  entry.used = std::min(entry.used + cost, std::max(chunk_, cost));
  if (entry.leased >= cost) {
    entry.leased -= cost;
  } else if (entry.begins_anew(now_ns) && entry.charged + cost <= chunk_) {
    entry.charged += cost;
  } else {
    result.verdict.allowed = false;
    result.verdict.retry_after_ns =
        std::max(entry.ask_again > now_ns ? entry.ask_again - now_ns : 0,
                 parameters_.emission_interval);
    result.verdict.reset_ns = parameters_.tolerance;
  }
  result.verdict.remaining = entry.leased;
  const bool low = entry.leased <= entry.used / 2;
  if (low && entry.asked_in != epoch && now_ns >= entry.ask_again) {
    entry.asked_in = epoch;
    result.ask = true;
  }
  return result;
}

// What is leased already is ours. Then a bucket of a share of the rate: an empty one for a key that
// was there before, since its burst may have been used up anywhere. So the sum holds while all have
// lost Redis; of those that are cut off alone the share is given out twice. Redis keeps none for
// them: a gateway process that crashed or was replaced cannot be told from one that is cut off, and
// each restart would take its share from all.
LimitVerdict ClusterTable::admit_alone(Entry& entry, std::uint64_t now_ns,
                                       std::uint32_t cost) const noexcept {
  if (now_ns < entry.lease_ends && entry.leased >= cost) {
    entry.leased -= cost;
    return {.allowed = true, .remaining = entry.leased};
  }
  const std::uint32_t share =
      on_loss_ == OnLoss::per_node ? 1 : std::max(gateways_.load(std::memory_order_relaxed), 1U);
  GcraParameters alone = parameters_;
  alone.emission_interval *= share;
  alone.tolerance = std::max(alone.tolerance, alone.emission_interval * cost);
  const std::uint32_t epoch = epoch_.load(std::memory_order_acquire);
  if (entry.alone_in != epoch) {
    entry.alone_in = epoch;
    const std::uint64_t begin = entry.known ? now_ns + alone.tolerance : now_ns;
    entry.tat = std::max(entry.tat, begin);
  }
  const GcraStep step = gcra_step(alone, entry.tat, now_ns, cost);
  if (step.allowed) entry.tat = step.tat;
  return gcra_verdict(alone, step, now_ns, cost);
}

template <typename Use>
void ClusterTable::with(std::uint64_t key, Use use) noexcept {
  Bucket& first = buckets_[key & mask_];
  Bucket& second = buckets_[(key >> 32) & mask_];
  const LockPair locked(first, second);
  Entry* entry = find(first, key);
  if (entry == nullptr) entry = find(second, key);
  if (entry != nullptr) use(*entry);
}

LeaseRequest ClusterTable::begin_lease(std::uint64_t key, std::uint64_t now_ns) noexcept {
  LeaseRequest request{.key = key};
  with(key, [&](Entry& entry) {
    const std::uint32_t target = std::min(std::max(entry.used * 2, 1U), std::max(chunk_, entry.used));
    const std::uint32_t left = now_ns < entry.lease_ends ? entry.leased : 0;
    request.wanted = target > left ? target - left : 0;
    request.charged = std::exchange(entry.charged, 0);
    entry.wanted = request.wanted;
    request.empty_bucket = std::exchange(entry.alone_in, 0) != 0;
    entry.used = 0;
  });
  return request;
}

void ClusterTable::granted(std::uint64_t key, std::uint32_t requests, std::uint64_t next_ns,
                           std::uint64_t now_ns) noexcept {
  with(key, [&](Entry& entry) {
    entry.leased = (now_ns < entry.lease_ends ? entry.leased : 0) + requests;
    entry.lease_ends = now_ns + kLeaseTime;
    // What was given in full leaves more to ask for; else Redis' bucket is empty.
    const std::uint64_t pause = std::max(kAskInterval, std::min(next_ns, kSecond));
    entry.ask_again = now_ns + (requests >= entry.wanted ? 0 : pause);
    entry.asked_in = 0;
    entry.known = true;
    entry.granted = requests;
    entry.in_full = requests >= entry.wanted;
  });
}

void ClusterTable::decided(const LimitKeys& keys, bool allowed, std::uint32_t cost,
                           std::uint64_t ahead_ns, std::uint64_t now_ns) noexcept {
  const std::uint64_t tag = keys.own == 0 ? 1 : keys.own;
  Bucket& first = buckets_[tag & mask_];
  Bucket& second = buckets_[(tag >> 32) & mask_];
  const LockPair locked(first, second);
  Entry* entry = place_for(first, second, tag, now_ns);
  if (entry == nullptr) return;
  entry->last_used = now_ns;
  entry->lease_ends = now_ns + kLeaseTime;
  entry->leased = 0;
  entry->granted = allowed ? cost : 0;
  entry->in_full = allowed;
  entry->known = true;
  if (chunk_ == 0) {
    entry->tat = now_ns + ahead_ns;
  } else if (allowed) {
    entry->lease_ends = now_ns;  // nothing is leased, and there is more to ask for
  }
}

void ClusterTable::settle(const LimitKeys& keys, std::uint64_t now_ns, std::uint64_t estimated,
                          std::uint64_t used) noexcept {
  with(keys.own == 0 ? 1 : keys.own, [&](Entry& entry) {
    entry.tat = gcra_settle(parameters_, entry.tat, now_ns, estimated, used);
  });
}

ClusterTable::Entry ClusterTable::copy_of(const LimitKeys& keys) const noexcept {
  for (const std::uint64_t tag :
       {keys.own == 0 ? 1 : keys.own, (keys.overflow ^ kOverflowMark) | 1}) {
    Bucket& first = buckets_[tag & mask_];
    Bucket& second = buckets_[(tag >> 32) & mask_];
    const LockPair locked(first, second);
    const Entry* entry = find(first, tag);
    if (entry == nullptr) entry = find(second, tag);
    if (entry != nullptr) return *entry;
  }
  return {};
}

ClusterLook ClusterTable::look(const LimitKeys& keys, std::uint64_t now_ns,
                               std::uint32_t cost) const noexcept {
  Entry entry = copy_of(keys);
  ClusterLook look;
  look.away = is_away(epoch_.load(std::memory_order_acquire));
  look.gateways = gateways_.load(std::memory_order_relaxed);
  look.answered = entry.known;
  look.granted = entry.granted;
  look.in_full = entry.in_full;
  const std::uint64_t answered = entry.lease_ends - std::min(entry.lease_ends, kLeaseTime);
  look.answer_age_ns = now_ns - std::min(now_ns, answered);
  if (now_ns < entry.lease_ends) {
    look.leased = entry.leased;
    look.lease_left_ns = entry.lease_ends - now_ns;
  }
  const bool stale = entry.comes_back(now_ns) && !entry.begins_anew(now_ns);
  look.decides = !look.away && (chunk_ == 0 || stale);
  if (look.away && on_loss_ == OnLoss::deny) {
    look.verdict = {.allowed = false, .retry_after_ns = kSecond, .reset_ns = kSecond};
  } else if (look.away) {
    look.verdict = admit_alone(entry, now_ns, cost);
  } else if (chunk_ == 0) {
    look.verdict =
        gcra_verdict(parameters_, gcra_step(parameters_, entry.tat, now_ns, cost), now_ns, cost);
  } else if (!stale) {
    look.verdict = admit_leased(entry, now_ns, cost).verdict;
  }
  return look;
}

void ClusterTable::failed(const LeaseRequest& request) noexcept {
  with(request.key, [&](Entry& entry) {
    entry.charged += request.charged;
    entry.asked_in = 0;
    if (request.empty_bucket && entry.alone_in == 0) {
      entry.alone_in = epoch_.load(std::memory_order_acquire);
    }
  });
}

void ClusterTable::lost(std::uint32_t gateways) noexcept {
  gateways_.store(std::max(gateways, 1U), std::memory_order_relaxed);
  const std::uint32_t epoch = epoch_.load(std::memory_order_relaxed);
  if (!is_away(epoch)) epoch_.store(epoch + 1, std::memory_order_release);
}

void ClusterTable::found() noexcept {
  const std::uint32_t epoch = epoch_.load(std::memory_order_relaxed);
  if (is_away(epoch)) epoch_.store(epoch + 1, std::memory_order_release);
}

// Hashes are spread evenly: of a large table a part tells enough.
LimitTableStats ClusterTable::stats(std::uint64_t now_ns) const noexcept {
  LimitTableStats stats;
  stats.entries = (mask_ + 1) * kEntriesPerBucket;
  stats.overflow = overflow_count_.load(std::memory_order_relaxed);
  const std::uint64_t looked_at = std::min<std::uint64_t>(mask_ + 1, kBucketsLookedAt);
  for (std::uint64_t i = 0; i < looked_at; ++i) {
    Bucket& bucket = buckets_[i];
    const LockPair locked(bucket, bucket);
    for (const Entry& entry : bucket.entries)
      stats.live += entry.idle(now_ns) ? 0 : 1;
  }
  stats.live = stats.live * (mask_ + 1) / looked_at;
  return stats;
}

}  // namespace sluice::policy
