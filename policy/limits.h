// Limits as workers use them: of what kind, what is counted apart, and the state behind.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "policy/carried_state.h"
#include "policy/config.h"
#include "policy/limits_cluster.h"
#include "policy/limits_concurrency.h"
#include "policy/limits_key.h"
#include "policy/limits_rate.h"
#include "policy/siphash.h"

namespace sluice::policy {

// What LimitStore keeps of a limit over reloads; one of the tables is there.
struct LimitState {
  std::shared_ptr<LimitTable> rate;
  std::shared_ptr<ConcurrencyTable> concurrency;  // unit concurrency
  std::shared_ptr<ClusterTable> cluster;          // scope cluster

  LimitTableStats stats(std::uint64_t now_ns) const noexcept;
};

// Cheap to copy, safe to share.
class LimitHandle {
 public:
  LimitHandle(std::shared_ptr<const Limit> limit, LimitState state, HashKey hash_key);

  const std::string& name() const { return limit_->name; }
  const Limit& limit() const { return *limit_; }
  // Whether what this client does counts.
  bool counts(const IpAddress& client) const noexcept {
    return limit_->from.empty() || limit_->from.contains(client);
  }
  bool is_concurrency() const { return state_.concurrency != nullptr; }
  bool is_cluster() const { return state_.cluster != nullptr; }
  bool counts_tokens() const { return limit_->unit == LimitUnit::tokens; }
  bool uses_destination() const { return hasher_.uses_destination(); }
  // What a burst takes to come back, for the RateLimit-Policy field.
  std::uint64_t window_ns() const { return window_ns_; }

  LimitKeys keys(const RequestView& request, std::uint64_t route_id) const noexcept {
    return hasher_.of(request, route_id);
  }

  // Rates of this node.
  LimitVerdict admit(const LimitKeys& keys, std::uint64_t now_ns,
                     std::uint64_t cost = 1) const noexcept {
    return state_.rate->admit(keys, now_ns, cost);
  }
  LimitVerdict peek(const LimitKeys& keys, std::uint64_t now_ns,
                    std::uint64_t cost = 1) const noexcept {
    return state_.rate->peek(keys, now_ns, cost);
  }
  void settle(const LimitKeys& keys, std::uint64_t now_ns, std::uint64_t estimated,
              std::uint64_t used) const noexcept {
    state_.rate->settle(keys, now_ns, estimated, used);
  }
  // Rates of the cluster.
  const std::shared_ptr<ClusterTable>& cluster() const { return state_.cluster; }
  // Concurrency; none: `max` are under way.
  std::optional<ConcurrencyLease> acquire(const LimitKeys& keys) const noexcept;
  std::uint32_t held(const LimitKeys& keys) const noexcept {
    return state_.concurrency->held(keys);
  }

  const LimitState& state() const { return state_; }

 private:
  std::shared_ptr<const Limit> limit_;
  LimitState state_;
  LimitKeyHasher hasher_;
  std::uint64_t window_ns_ = 0;
};

// Keeps the state of limits over reloads: a limit of the same name, key, rate and burst goes on
// with what it had; a concurrency limit also with another `max`. Owned by the gateway; one thread
// (control).
class LimitStore {
 public:
  // `hash_key` random, per process.
  explicit LimitStore(HashKey hash_key);

  // A handle per limit, in the order of `limits` (the indices in CompiledRoute::limits). Forgets
  // limits that are gone; their state lives on as long as handles do. `redis`: of limits of scope
  // cluster.
  std::vector<LimitHandle> resolve(const std::vector<Limit>& limits,
                                   const std::optional<RedisConfig>& redis = std::nullopt);

  // For another process: the rates of this node that somebody has used up. Cluster's have Redis,
  // and what is under way stays where it is.
  void save(CarriedState& state, std::uint64_t now_ns) const;
  // Before the first resolve(), which then fills the tables of limits that are still the same.
  void take_over(const CarriedState& state);

 private:
  struct Kept {
    Limit limit;
    OnLoss on_loss = OnLoss::share;
    std::string prefix;  // of the keys in Redis
    LimitState state;
  };
  static bool goes_on(const Kept& old, const Kept& next);
  static LimitState make_state(const Limit& limit, OnLoss on_loss);

  HashKey hash_key_;
  std::map<std::string, Kept> kept_;
  std::map<std::string, CarriedRate> carried_;  // until the first resolve()
};

}  // namespace sluice::policy
