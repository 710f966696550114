// Rate limits: GCRA with one atomic 64-bit theoretical arrival time (TAT) per key, shared by all workers.
//
// Error: for one key, admitted requests in any window of length t never exceed burst + rate * t, whatever the
// interleaving of workers (the TAT moves by compare-and-swap; the winner is counted, the loser looks again).
// Refused requests are not counted, so a limiter recovers however hard it is hit.
// Memory: a fixed table. Only entries whose arrival time has passed are given to new keys; when all in a key's
// bucket live, the key shares an overflow entry with its /24 or /48, so that filling the table neither evicts
// live keys nor sets anyone free.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

struct Admission {
  bool allowed = true;
  std::uint64_t retry_after_ns = 0;  // when refused: a request will be admitted then, at the earliest
  std::uint64_t remaining = 0;       // further requests that would be admitted at once
};

// A rate as GCRA wants it.
struct GcraRate {
  std::uint64_t emission_ns = 0;   // one request each so many nanoseconds
  std::uint64_t tolerance_ns = 0;  // emission * (burst - 1)
  static GcraRate of(const Limit& limit);
};

// Who is limited. `identity` is hashed with a seed that clients cannot know; `network` chooses the overflow entry.
struct LimitSubject {
  std::uint64_t identity = 0;
  std::uint64_t network = 0;
};

class LimitTable {
 public:
  explicit LimitTable(std::size_t keys = 65536);  // rounded up to a power of two; 16 bytes a key
  Admission admit(const LimitSubject& subject, const GcraRate& rate, std::uint64_t now_ns);

  std::uint64_t capacity() const { return (mask_ + 1) * kWays; }
  std::uint64_t overflowed() const { return overflowed_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kWays = 4;           // entries of a bucket: one cache line
  static constexpr std::size_t kOverflow = 4096;    // shared entries
  struct Entry {
    std::atomic<std::uint64_t> identity{0};  // 0: free
    std::atomic<std::uint64_t> tat{0};
  };
  struct alignas(64) Bucket {
    std::array<Entry, kWays> entries;
  };
  Entry* find_or_claim(std::uint64_t identity, std::uint64_t now_ns);

  std::size_t mask_;
  std::vector<Bucket> buckets_;
  std::vector<Entry> overflow_;
  std::atomic<std::uint64_t> overflowed_{0};
};

// A limit at run time: the table, shared by snapshots as long as the limit's key means the same.
class LimitState {
 public:
  LimitState(const Limit& limit, std::uint64_t seed) : limit_(limit), rate_(GcraRate::of(limit)), seed_(seed) {}
  Admission admit(const IpAddress& client, std::uint32_t route, std::uint64_t now_ns);
  const Limit& limit() const { return limit_; }
  const LimitTable& table() const { return table_; }

 private:
  LimitSubject subject(const IpAddress& client, std::uint32_t route) const;
  Limit limit_;
  GcraRate rate_;
  std::uint64_t seed_;
  LimitTable table_;
};

// Owned by the gateway; outlives snapshots. An unchanged limit keeps its arrival times over a reload.
class LimitStore {
 public:
  explicit LimitStore(std::uint64_t seed) : seed_(seed) {}
  // Control thread. States in the order of `limits`; those that are no longer named go with their last user.
  std::vector<std::shared_ptr<LimitState>> resolve(std::span<const Limit> limits);

 private:
  std::uint64_t seed_;
  std::map<std::string, std::shared_ptr<LimitState>> states_;
};

// SipHash-2-4 of 32 bytes would do; this is a keyed 64-bit mix of the same purpose, over `bytes`.
std::uint64_t keyed_hash(std::uint64_t seed, std::span<const std::uint8_t> bytes);

}  // namespace sluice::policy
