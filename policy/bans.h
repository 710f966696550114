// Who is banned: sources that exceed a limit again and again, or do what honest clients never do.
// Decides only; the kernel (or the gateway) enforces.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/address.h"
#include "policy/config.h"
#include "policy/siphash.h"

namespace sluice::policy {

// Never banned: `protect.from`, trusted proxies, loopback, the policy's own upstreams, and Redis.
// Immutable.
class ProtectedSources {
 public:
  ProtectedSources() = default;
  explicit ProtectedSources(const Config& config);
  bool overlaps(const Prefix& source) const;

 private:
  std::vector<Prefix> prefixes_;
};

// The ban rules of a policy, by what triggers them. Immutable; part of a Snapshot.
class BanRules {
 public:
  static constexpr std::size_t kBanEvents = 5;

  struct Rule {
    std::uint32_t index = 0;  // in Config::bans.rules
    std::uint64_t id = 0;     // the same over reloads for the same limit, mode and count
    std::uint8_t ipv6_prefix = 64;
    std::optional<std::uint32_t> route{};  // index in Config::routes: events there alone
    std::uint64_t upstream = 0;            // upstream_id() of action route
    BanRule rule{};
  };

  BanRules() = default;
  explicit BanRules(const Config& config);
  // The rules of a limit, by its index in Config::limits.
  std::span<const Rule> of_limit(std::uint32_t limit) const;
  std::span<const Rule> of_event(BanEvent event) const {
    return by_event_[static_cast<std::size_t>(event)];
  }
  template <typename Visit>
  void each(Visit visit) const {
    for (const auto& rules : by_limit_)
      for (const Rule& rule : rules)
        visit(rule);
    for (const auto& rules : by_event_)
      for (const Rule& rule : rules)
        visit(rule);
  }
  // Of an upstream_id() that a rule of action route named: the index in Config::upstreams.
  std::optional<std::uint32_t> find_upstream(std::uint64_t id) const;
  const ProtectedSources& protected_sources() const { return protected_; }
  std::uint64_t ban_interval() const { return ban_interval_; }
  std::uint64_t ban_tolerance() const { return ban_tolerance_; }

 private:
  std::vector<std::vector<Rule>> by_limit_;
  std::array<std::vector<Rule>, kBanEvents> by_event_;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> upstreams_;  // of rules of action route
  std::uint64_t ban_interval_ = 0;                                  // ns; from bans.rate
  std::uint64_t ban_tolerance_ = 0;
  ProtectedSources protected_;
};

// The same for an upstream of that name in every policy and process.
std::uint64_t upstream_id(std::string_view name);

struct BanDecision {
  Prefix source;  // IPv4: the address; IPv6: as the rule or its limit says
  Duration duration{};
  std::uint32_t rule = 0;  // index in Config::bans.rules
  BanMode mode = BanMode::enforce;
  BanAction action = BanAction::drop;
  std::uint64_t upstream = 0;  // upstream_id() of action route
};

// What BanTracker remembers of one source and rule.
struct BanRecord {
  static constexpr int kSlots = 8;

  std::uint64_t key = 0;  // 0: free
  std::uint64_t window_start = 0;
  std::uint64_t last_strike = 0;
  std::uint64_t banned_until = 0;
  std::uint32_t bans = 0;
  std::uint32_t slot = 0;  // slots that have begun since window_start
  std::uint32_t strikes[kSlots] = {};
};

// Counts strikes per (rule, source) in fixed memory, and bans in all: no more than bans.rate. Any
// thread; takes a mutex, so call it on refusals only.
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

  // The limit with this index was exceeded. `now_ns` is monotonic. If several rules strike at once,
  // the one that enforces and lasts longest is returned.
  std::optional<BanDecision> strike(const BanRules& rules, std::uint32_t limit,
                                    const IpAddress& source, std::uint64_t now_ns);
  // `route`: index in Config::routes, where it happened on one.
  std::optional<BanDecision> strike(const BanRules& rules, BanEvent event,
                                    std::optional<std::uint32_t> route, const IpAddress& source,
                                    std::uint64_t now_ns);

  // The ban of `source`, which is as wide as it was decided, is over: the next strike may ban
  // again, for longer where a rule says so.
  void lift(const BanRules& rules, const Prefix& source, std::uint64_t now_ns);
  // It is somebody else's from now on: nobody has been banned there.
  void forget(const BanRules& rules, const Prefix& source);

  // For another process: whom it counts, and under which key.
  HashKey hash_key() const { return hash_key_; }
  std::vector<BanRecord> records() const;
  // Before the first strike. A record that finds no place is left out.
  void take_over(HashKey hash_key, const std::vector<BanRecord>& records);

  // Bans that bans.rate did not let through, so far; their sources go on counting.
  std::uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  static constexpr int kSlots = BanRecord::kSlots;
  static constexpr std::size_t kPerSet = 8;
  using Record = BanRecord;

  bool may_ban(const BanRules& rules, const BanRule& rule, std::uint64_t now_ns);
  void strike_rule(const BanRules& rules, const BanRules::Rule& rule, const IpAddress& source,
                   std::uint64_t now_ns, std::optional<BanDecision>& decision);
  Record& find(std::uint64_t key, std::uint64_t now_ns);
  Record* find_known(std::uint64_t key);
  template <typename Visit>
  void each_known(const BanRules& rules, const Prefix& source, Visit visit);
  std::optional<Duration> strike_one(const BanRules& rules, const BanRule& rule, Record& record,
                                     std::uint64_t now_ns);
  static bool count_strike(const BanRule& rule, Record& record, std::uint64_t now_ns);

  HashKey hash_key_;
  mutable std::mutex mutex_;
  std::vector<Record> records_;
  std::uint64_t bans_tat_ = 0;  // GCRA over bans.rate
  std::atomic<std::uint64_t> refused_{0};
  std::uint64_t set_mask_ = 0;
};

}  // namespace sluice::policy
