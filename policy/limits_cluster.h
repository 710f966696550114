// Rates that several gateways share. The truth is one GCRA per key in Redis; each gateway leases
// requests ahead and hands them out by itself, so that no request waits for Redis.
//
// A lease is at most `chunk` requests: what the rate allows in 100 ms. What a gateway has used
// since it last asked decides how much it asks for. A key's first requests are let in before
// anything is leased, at most a chunk of them, and charged with the first lease; so are those of a
// key that comes back, if Redis last gave in full. Where it did not, Redis decides the first one.
//
// The error: with n gateways that reach Redis, all of them together let in at most
// burst + rate * t + 2 * n * chunk in any time t (a chunk leased before, a chunk of first
// requests); what a lease leaves unused after a second is lost, so that less is let in. While Redis
// is away, each begins with what it has leased and an empty bucket of a share of the rate, so that
// the sum holds while all have lost it; keys that are new then start with their share of the burst.
//
// Rates below 10/s are too small to share, and tokens of language models come thousands at a time:
// Redis decides each request, within a deadline. What it
// says of a key is remembered, so that while it is away the key begins with an empty bucket too.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "policy/config.h"
#include "policy/limits_rate.h"

namespace sluice::policy {

// What a gateway asks Redis for, of one key.
struct LeaseRequest {
  std::uint64_t key = 0;
  std::uint32_t wanted = 0;
  std::uint32_t charged = 0;    // let in already
  bool empty_bucket = false;    // Redis was away, and the bucket there may say too much
};

struct ClusterVerdict {
  LimitVerdict verdict;
  bool ask = false;     // begin_lease() and granted() are wanted for the key
  bool decide = false;  // Redis has to say; the verdict says nothing
  std::uint64_t key = 0;
};

// What is known of a key, for those who ask why.
struct ClusterLook {
  bool away = false;         // Redis cannot be asked: on_loss is in force
  bool decides = false;      // Redis itself would be asked; the verdict is by what it said last
  LimitVerdict verdict;      // what admit() would say
  std::uint32_t leased = 0;  // requests left of the share …
  std::uint64_t lease_left_ns = 0;  // … for so long
  std::uint32_t gateways = 1;       // that share the rate while Redis is away
  // What Redis said last, if anything is remembered of it.
  bool answered = false;
  std::uint32_t granted = 0;
  bool in_full = false;  // all that was asked for
  std::uint64_t answer_age_ns = 0;
};

// The state of one limit on one gateway. Any thread; takes a short spin lock of two buckets. Memory
// is fixed at construction, 64 bytes an entry.
class ClusterTable {
 public:
  static constexpr std::uint64_t kLeaseTime = 1'000'000'000;    // then what is unused is lost
  static constexpr std::uint64_t kAskInterval = 20'000'000;     // per key
  static constexpr std::uint64_t kChunkTime = 100'000'000;

  // `name`: of the limit, the same on every gateway.
  // `alone`: nothing is leased ahead, Redis decides each request.
  ClusterTable(std::string name, const GcraParameters& parameters, OnLoss on_loss,
               std::size_t entries, bool alone = false);
  ~ClusterTable();
  ClusterTable(const ClusterTable&) = delete;
  ClusterTable& operator=(const ClusterTable&) = delete;

  // `decided_here`: Redis was asked and did not answer in time: as while it is away.
  ClusterVerdict admit(const LimitKeys& keys, std::uint64_t now_ns, std::uint32_t cost,
                       bool decided_here = false) noexcept;

  // Changes nothing.
  ClusterLook look(const LimitKeys& keys, std::uint64_t now_ns, std::uint32_t cost) const noexcept;

  // --- whoever speaks to Redis ---
  LeaseRequest begin_lease(std::uint64_t key, std::uint64_t now_ns) noexcept;
  // `next_ns`: how long until Redis has another one to give.
  void granted(std::uint64_t key, std::uint32_t requests, std::uint64_t next_ns,
               std::uint64_t now_ns) noexcept;
  // Redis has decided about `cost` requests. `ahead_ns`: how far the key has run ahead of its rate.
  void decided(const LimitKeys& keys, bool allowed, std::uint32_t cost, std::uint64_t ahead_ns,
               std::uint64_t now_ns) noexcept;
  // Of what was decided for `estimated` it took `used` in the end: for as long as Redis is away.
  void settle(const LimitKeys& keys, std::uint64_t now_ns, std::uint64_t estimated,
              std::uint64_t used) noexcept;
  // No answer came: what was let in stays to be charged.
  void failed(const LeaseRequest& request) noexcept;
  // Redis cannot be asked. `gateways`: as many share the rate, this one included.
  void lost(std::uint32_t gateways) noexcept;
  void found() noexcept;

  const std::string& name() const { return name_; }
  const GcraParameters& parameters() const { return parameters_; }
  std::uint32_t chunk() const { return chunk_; }  // 0: too small to share
  OnLoss on_loss() const { return on_loss_; }
  LimitTableStats stats(std::uint64_t now_ns) const noexcept;

 private:
  struct Entry;
  struct Bucket;

  Entry* find(Bucket& in, std::uint64_t tag) const noexcept;
  Entry* place_for(Bucket& first, Bucket& second, std::uint64_t tag, std::uint64_t now_ns) noexcept;
  ClusterVerdict admit_leased(Entry& entry, std::uint64_t now_ns,
                              std::uint32_t cost) const noexcept;
  LimitVerdict admit_alone(Entry& entry, std::uint64_t now_ns, std::uint32_t cost) const noexcept;
  Entry copy_of(const LimitKeys& keys) const noexcept;
  template <typename Use>
  void with(std::uint64_t key, Use use) noexcept;

  std::string name_;
  GcraParameters parameters_;
  OnLoss on_loss_;
  std::uint32_t chunk_ = 0;
  std::atomic<std::uint32_t> gateways_{1};
  std::atomic<std::uint32_t> epoch_{1};  // odd: Redis is away; each change begins a new one
  std::unique_ptr<Bucket[]> buckets_;
  std::uint64_t mask_ = 0;
  std::atomic<std::uint64_t> overflow_count_{0};
};

}  // namespace sluice::policy
