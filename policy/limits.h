// Rate limits: GCRA (ITU-T I.371, the "virtual scheduling" form) over a table of bounded memory
// that all workers share.
//
// A key's whole state is one 64-bit time, its theoretical arrival time (TAT). A request is allowed
// if it does not run ahead of the rate by more than `burst` requests; a refused one changes
// nothing, so a client that keeps trying gets its rate all the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config.h"
#include "policy/siphash.h"

namespace sluice::policy {

// Both in nanoseconds.
struct GcraParameters {
  std::uint64_t emission_interval =
      0;                        // one request per so long; rounded up, so never more than the rate
  std::uint64_t tolerance = 0;  // burst * emission_interval

  static GcraParameters of(const Limit& limit);
  bool operator==(const GcraParameters&) const = default;
};

struct LimitVerdict {
  bool allowed = true;
  std::uint64_t remaining = 0;       // further requests that would be allowed at once
  std::uint64_t retry_after_ns = 0;  // refused: how long until one would be allowed
  std::uint64_t reset_ns = 0;        // until the whole burst is there again
};

struct LimitTableStats {
  std::uint64_t entries = 0;  // capacity
  std::uint64_t live =
      0;  // keys that have used up something; walks the table, for the metrics page only
  std::uint64_t overflow = 0;  // admissions decided in a shared overflow cell since the start
};

// The state of one limit. admit() may be called by any thread at any time: a known key costs one
// compare-and-swap, a new one takes a short spin lock of its buckets. Memory is fixed at
// construction, about 18 bytes an entry.
//
// Only entries whose TAT has passed are reused (they hold no information). When all entries that a
// new key may use are live, the key shares an overflow cell with its network (overflow_key): a
// flood of sources is limited together, and cannot push out those who were there.
// Within its own entry a key never gets more than burst + rate * t in any time t; one that moves
// between the shared cell and an entry of its own, in such a flood, may get what both allow.
class LimitTable {
 public:
  static constexpr std::size_t kDefaultEntries = 65536;

  explicit LimitTable(const GcraParameters& parameters, std::size_t entries = kDefaultEntries);
  ~LimitTable();
  LimitTable(const LimitTable&) = delete;
  LimitTable& operator=(const LimitTable&) = delete;

  // `key` and `overflow_key` are keyed hashes. `now_ns` is a monotonic time; threads need not agree
  // on it exactly.
  LimitVerdict admit(std::uint64_t key, std::uint64_t overflow_key, std::uint64_t now_ns) noexcept;

  const GcraParameters& parameters() const { return parameters_; }
  LimitTableStats stats(std::uint64_t now_ns) const noexcept;

 private:
  struct Entry;
  struct Bucket;

  Bucket& bucket(std::uint64_t hash) const noexcept;
  bool admit_known(Bucket& in, std::uint64_t tag, std::uint64_t now_ns,
                   LimitVerdict& verdict) noexcept;
  bool admit_new(Bucket& first, Bucket& second, std::uint64_t tag, std::uint64_t now_ns,
                 LimitVerdict& verdict) noexcept;
  bool claim(Bucket& in, std::uint64_t tag, std::uint64_t now_ns, std::uint64_t floor,
             LimitVerdict& verdict) noexcept;

  GcraParameters parameters_;
  std::unique_ptr<Bucket[]> buckets_;
  std::uint64_t mask_ = 0;
  std::unique_ptr<std::atomic<std::uint64_t>[]> overflow_cells_;
  std::atomic<std::uint64_t> overflow_count_{0};
};

// A limit as a worker uses it: the table, and how a request becomes a key. Cheap to copy, safe to
// share.
class LimitHandle {
 public:
  LimitHandle(const Limit& limit, std::shared_ptr<LimitTable> table, HashKey hash_key);

  // `route_id` is Snapshot's CompiledRoute::id; it counts only where the limit's key names the
  // route.
  LimitVerdict admit(const IpAddress& client, std::uint64_t route_id,
                     std::uint64_t now_ns) const noexcept;

  const std::string& name() const { return name_; }
  std::uint64_t burst() const { return burst_; }  // for RateLimit headers
  LimitTable& table() const { return *table_; }

 private:
  std::string name_;
  std::shared_ptr<LimitTable> table_;
  HashKey hash_key_;
  std::uint64_t burst_ = 0;
  std::uint8_t ipv6_prefix_ = 64;
  bool by_client_ = true;
  bool by_route_ = false;
};

// Keeps the state of limits over reloads: a limit of the same name, key, rate and burst goes on
// with the table it had. Owned by the gateway; one thread (control).
class LimitStore {
 public:
  // `hash_key` random, per process.
  explicit LimitStore(HashKey hash_key,
                      std::size_t entries_per_limit = LimitTable::kDefaultEntries);

  // A handle per limit, in the order of `limits` (the indices in CompiledRoute::limits). Forgets
  // limits that are gone; their tables live on as long as handles do.
  std::vector<LimitHandle> resolve(const std::vector<Limit>& limits);

 private:
  struct Kept {
    Limit limit;
    std::shared_ptr<LimitTable> table;
  };
  HashKey hash_key_;
  std::size_t entries_;
  std::map<std::string, Kept> kept_;
};

}  // namespace sluice::policy
