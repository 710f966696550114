#include "policy/limits.h"

#include <algorithm>
#include <utility>

namespace sluice::policy {

namespace {

// All gateways that share a limit must hash alike, so this key is no secret: who finds another
// value of the same hash shares its count, after 2^64 tries.
constexpr HashKey kClusterKey{0x736c756963652d63, 0x6c75737465722d31};

// What a burst takes to come back, by the policy's own numbers: that of an interval, which is
// rounded up, would be a little more, and a second more where it is told in seconds.
std::uint64_t window_of(const Limit& limit) {
  const auto period = static_cast<std::uint64_t>(limit.rate_period.count());
  const std::uint64_t count = std::max<std::uint64_t>(limit.rate_count, 1);
  const std::uint64_t burst = limit.burst != 0 ? limit.burst : count;
  const double rest = static_cast<double>(burst % count) * static_cast<double>(period);
  return burst / count * period + static_cast<std::uint64_t>(rest / static_cast<double>(count));
}

}  // namespace

LimitTableStats LimitState::stats(std::uint64_t now_ns) const noexcept {
  if (concurrency) return concurrency->stats();
  if (cluster) return cluster->stats(now_ns);
  return rate->stats(now_ns);
}

LimitHandle::LimitHandle(std::shared_ptr<const Limit> limit, LimitState state, HashKey hash_key)
    : limit_(std::move(limit)), state_(std::move(state)), hasher_(*limit_, hash_key) {
  if (!state_.concurrency) window_ns_ = window_of(*limit_);
}

std::optional<ConcurrencyLease> LimitHandle::acquire(const LimitKeys& keys) const noexcept {
  ConcurrencyTable::Count* count = state_.concurrency->acquire(keys, limit_->max);
  if (count == nullptr) return std::nullopt;
  return ConcurrencyLease(state_.concurrency, count);
}

LimitStore::LimitStore(HashKey hash_key) : hash_key_(hash_key) {}

bool LimitStore::goes_on(const Kept& old, const Kept& next) {
  const Limit& a = old.limit;
  const Limit& b = next.limit;
  return a.key == b.key && a.unit == b.unit && a.scope == b.scope &&
         a.ipv4_prefix == b.ipv4_prefix && a.ipv6_prefix == b.ipv6_prefix &&
         a.max_keys == b.max_keys && old.on_loss == next.on_loss && old.prefix == next.prefix &&
         GcraParameters::of(a) == GcraParameters::of(b);
}

LimitState LimitStore::make_state(const Limit& limit, OnLoss on_loss) {
  LimitState state;
  if (limit.unit == LimitUnit::concurrency) {
    state.concurrency = std::make_shared<ConcurrencyTable>(limit.max_keys);
  } else if (limit.scope == LimitScope::cluster) {
    state.cluster = std::make_shared<ClusterTable>(limit.name, GcraParameters::of(limit), on_loss,
                                                   limit.max_keys, limit.unit == LimitUnit::tokens);
  } else {
    state.rate = std::make_shared<LimitTable>(GcraParameters::of(limit), limit.max_keys);
  }
  return state;
}

namespace {

// As goes_on() compares, for limits of this node.
std::uint64_t identity_of(const Limit& limit) {
  std::string text;
  std::vector<std::string> parts;
  for (const LimitKeyPart& part : limit.key)
    parts.push_back(std::to_string(static_cast<int>(part.kind)) + " " + part.name);
  std::ranges::sort(parts);
  for (const std::string& part : parts)
    text += part + "\n";
  const GcraParameters gcra = GcraParameters::of(limit);
  for (const std::uint64_t number :
       {std::uint64_t{limit.ipv4_prefix}, std::uint64_t{limit.ipv6_prefix},
        std::uint64_t{limit.max_keys}, static_cast<std::uint64_t>(limit.unit),
        gcra.emission_interval, gcra.tolerance, gcra.max_delay})
    text += std::to_string(number) + " ";
  return siphash(kClusterKey, text);
}

}  // namespace

void LimitStore::save(CarriedState& state, std::uint64_t now_ns) const {
  state.limit_key = hash_key_;
  std::size_t left = CarriedState::kMaxCells;
  for (const auto& [name, kept] : kept_) {
    if (!kept.state.rate) continue;
    CarriedRate rate{.limit = name,
                     .identity = identity_of(kept.limit),
                     .keys = kept.state.rate->live_keys(now_ns, left),
                     .overflow = kept.state.rate->live_overflow(now_ns)};
    if (rate.keys.empty() && rate.overflow.empty()) continue;
    left -= rate.keys.size();
    state.rates.push_back(std::move(rate));
  }
}

void LimitStore::take_over(const CarriedState& state) {
  if (state.rates.empty()) return;
  hash_key_ = state.limit_key;
  for (const CarriedRate& rate : state.rates)
    carried_.insert_or_assign(rate.limit, rate);
}

std::vector<LimitHandle> LimitStore::resolve(const std::vector<Limit>& limits,
                                             const std::optional<RedisConfig>& redis) {
  std::map<std::string, Kept> kept;
  std::vector<LimitHandle> handles;
  handles.reserve(limits.size());
  for (const Limit& limit : limits) {
    Kept next{.limit = limit, .on_loss = {}, .prefix = {}, .state = {}};
    const bool cluster = limit.scope == LimitScope::cluster && redis;
    if (cluster) {
      next.on_loss = redis->on_loss;
      next.prefix = redis->prefix;
    }
    const auto old = kept_.find(limit.name);
    const bool same = old != kept_.end() && goes_on(old->second, next);
    next.state = same ? old->second.state : make_state(limit, next.on_loss);
    const auto carried = carried_.find(limit.name);
    if (next.state.rate && carried != carried_.end() &&
        carried->second.identity == identity_of(limit))
      next.state.rate->take_over(carried->second.keys, carried->second.overflow);
    handles.emplace_back(std::make_shared<const Limit>(limit), next.state,
                         cluster ? kClusterKey : hash_key_);
    kept.insert_or_assign(limit.name, std::move(next));
  }
  kept_ = std::move(kept);
  carried_.clear();
  return handles;
}

}  // namespace sluice::policy
