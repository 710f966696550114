// Rates: GCRA (ITU-T I.371, the "virtual scheduling" form) over a table of bounded memory that all
// workers share.
//
// A key's whole state is one 64-bit time, its theoretical arrival time (TAT). A request is allowed
// if it does not run ahead of the rate by more than `burst` requests; a refused one changes
// nothing, so a client that keeps trying gets its rate all the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "policy/config.h"
#include "policy/limits_key.h"

namespace sluice::policy {

// All in nanoseconds.
struct GcraParameters {
  std::uint64_t emission_interval =
      0;                        // one request per so long; rounded up, so never more than the rate
  std::uint64_t tolerance = 0;  // burst * emission_interval
  std::uint64_t max_delay = 0;  // how much further ahead a request may run that then waits

  static GcraParameters of(const Limit& limit);
  bool operator==(const GcraParameters&) const = default;
};

struct LimitVerdict {
  bool allowed = true;
  std::uint64_t remaining = 0;       // further requests that would be allowed at once
  std::uint64_t retry_after_ns = 0;  // refused: how long until one would be allowed
  std::uint64_t reset_ns = 0;        // until the whole burst is there again
  std::uint64_t delay_ns = 0;        // allowed: after waiting so long
};

// One step of GCRA. `cost`: in requests, at most the burst; the product with the interval fits.
struct GcraStep {
  bool allowed;
  std::uint64_t tat;  // the new one
};
GcraStep gcra_step(const GcraParameters& gcra, std::uint64_t tat, std::uint64_t now_ns,
                   std::uint64_t cost);
// A cost that was estimated is taken back, and another one counts instead. Never below `now_ns`.
std::uint64_t gcra_settle(const GcraParameters& gcra, std::uint64_t tat, std::uint64_t now_ns,
                          std::uint64_t estimated, std::uint64_t used);
LimitVerdict gcra_verdict(const GcraParameters& gcra, const GcraStep& step, std::uint64_t now_ns,
                          std::uint64_t cost);

// For another process: a key's tag or the index of an overflow cell, and its TAT.
struct CarriedCell {
  std::uint64_t place = 0;
  std::uint64_t tat = 0;
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
// new key may use are live, the key shares an overflow cell with its network: a flood of sources is
// limited together, and cannot push out those who were there.
//
// The error: none. Within its own entry a key never gets more than burst + rate * t in any time t,
// whatever the interleaving of workers; one that moves between the shared cell and an entry of its
// own, in such a flood, may get what both allow. What is refused for a delay too long is not
// counted; what waits is counted when it is let in, so that the bound holds for what has waited.
class LimitTable {
 public:
  static constexpr std::size_t kDefaultEntries = 65536;

  explicit LimitTable(const GcraParameters& parameters, std::size_t entries = kDefaultEntries);
  ~LimitTable();
  LimitTable(const LimitTable&) = delete;
  LimitTable& operator=(const LimitTable&) = delete;

  // `now_ns` is a monotonic time; threads need not agree on it exactly.
  LimitVerdict admit(const LimitKeys& keys, std::uint64_t now_ns, std::uint64_t cost = 1) noexcept;
  // Of what admit() has let in at a cost of `estimated`, it took `used` in the end. More than was
  // left is used up all the same: then the next ones wait.
  void settle(const LimitKeys& keys, std::uint64_t now_ns, std::uint64_t estimated,
              std::uint64_t used) noexcept;
  // What admit() would say just now; changes nothing.
  LimitVerdict peek(const LimitKeys& keys, std::uint64_t now_ns,
                    std::uint64_t cost = 1) const noexcept;

  const GcraParameters& parameters() const { return parameters_; }
  LimitTableStats stats(std::uint64_t now_ns) const noexcept;

  // What has used up something: keys, and overflow cells. At most `most` of each.
  std::vector<CarriedCell> live_keys(std::uint64_t now_ns, std::size_t most) const;
  std::vector<CarriedCell> live_overflow(std::uint64_t now_ns) const;
  // Before the first admit(). A key that finds no place is left out.
  void take_over(const std::vector<CarriedCell>& keys, const std::vector<CarriedCell>& overflow);

 private:
  struct Entry;
  struct Bucket;
  struct Request {
    std::uint64_t tag;
    std::uint64_t now_ns;
    std::uint64_t cost;
  };

  Bucket& bucket(std::uint64_t hash) const noexcept;
  bool admit_known(Bucket& in, const Request& request, LimitVerdict& verdict) noexcept;
  bool admit_new(Bucket& first, Bucket& second, const Request& request,
                 LimitVerdict& verdict) noexcept;
  bool claim(Bucket& in, const Request& request, std::uint64_t floor,
             LimitVerdict& verdict) noexcept;

  GcraParameters parameters_;
  std::unique_ptr<Bucket[]> buckets_;
  std::uint64_t mask_ = 0;
  std::unique_ptr<std::atomic<std::uint64_t>[]> overflow_cells_;
  std::atomic<std::uint64_t> overflow_count_{0};
};

}  // namespace sluice::policy
