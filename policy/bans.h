// Who is banned: sources that a limit refuses again and again. Decides only; the kernel (or the
// gateway) enforces.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "policy/address.h"
#include "policy/config.h"
#include "policy/siphash.h"

namespace sluice::policy {

// Never banned: `protect.from`, loopback, and the policy's own upstreams. Immutable.
class ProtectedSources {
 public:
  ProtectedSources() = default;
  explicit ProtectedSources(const Config& config);
  bool overlaps(const Prefix& source) const;

 private:
  std::vector<Prefix> prefixes_;
};

// The ban rules of a policy, by the limit that triggers them. Immutable; part of a Snapshot.
class BanRules {
 public:
  struct Rule {
    std::uint32_t index = 0;  // in Config::bans.rules
    std::uint64_t id = 0;     // the same over reloads for the same limit, mode and count
    std::uint8_t ipv6_prefix = 64;
    BanRule rule;
  };

  BanRules() = default;
  explicit BanRules(const Config& config);
  // The rules of a limit, by its index in Config::limits.
  std::span<const Rule> of_limit(std::uint32_t limit) const;
  const ProtectedSources& protected_sources() const { return protected_; }

 private:
  std::vector<std::vector<Rule>> by_limit_;
  ProtectedSources protected_;
};

struct BanDecision {
  Prefix source;  // IPv4: the address; IPv6: the limit's ipv6_prefix
  Duration duration{};
  std::uint32_t rule = 0;  // index in Config::bans.rules
  BanMode mode = BanMode::enforce;
};

// Counts strikes per (rule, source) in fixed memory. Any thread; takes a mutex, so call it on
// refusals only.
//
// A rule strikes when `count` refusals fall within `within`. The window begins with a source's
// first strike and then slides by eighths, so in the long run it is between 7/8 of `within` and
// `within`: never longer than it says. Each ban of a source that was banned before lasts `grow`
// times longer, up to `up_to`; this is forgotten when `up_to` has passed since its last ban ended.
// While a ban runs (enforced or audited), further strikes do not count. When memory is full, the
// source that struck longest ago is forgotten, those with a ban behind them last.
class BanTracker {
 public:
  static constexpr std::size_t kDefaultSources = 32768;

  // `hash_key` random, per process.
  explicit BanTracker(HashKey hash_key, std::size_t sources = kDefaultSources);

  // A refusal by the limit with this index. `now_ns` is monotonic. If several rules strike at once,
  // the one that enforces and lasts longest is returned.
  std::optional<BanDecision> strike(const BanRules& rules, std::uint32_t limit,
                                    const IpAddress& source, std::uint64_t now_ns);

 private:
  static constexpr int kSlots = 8;
  static constexpr std::size_t kPerSet = 8;

  struct Record {
    std::uint64_t key = 0;  // 0: free
    std::uint64_t window_start = 0;
    std::uint64_t last_strike = 0;
    std::uint64_t banned_until = 0;
    std::uint32_t bans = 0;
    std::uint32_t slot = 0;  // slots that have begun since window_start
    std::uint32_t strikes[kSlots] = {};
  };

  Record& find(std::uint64_t key, std::uint64_t now_ns);
  std::optional<Duration> strike_one(const BanRule& rule, Record& record, std::uint64_t now_ns);
  static bool count_strike(const BanRule& rule, Record& record, std::uint64_t now_ns);

  HashKey hash_key_;
  std::mutex mutex_;
  std::vector<Record> records_;
  std::uint64_t set_mask_ = 0;
};

}  // namespace sluice::policy
