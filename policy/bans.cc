#include "policy/bans.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <string>

namespace sluice::policy {

namespace {

constexpr HashKey kIdKey{0x736c756963652d62, 0x616e2d72756c6573};

std::uint64_t rule_id(const BanRule& rule) {
  return siphash(kIdKey, rule.limit + "\n" + std::to_string(rule.count) + "\n" +
                             std::to_string(rule.within.count()) + "\n" +
                             std::to_string(static_cast<int>(rule.mode)));
}

Prefix source_prefix(const IpAddress& source, std::uint8_t ipv6_prefix) {
  const std::uint8_t length = source.is_v4() ? 32 : ipv6_prefix;
  return {source.masked(length), length};
}

std::uint64_t record_key(const HashKey& hash_key, std::uint64_t rule, const Prefix& source) {
  std::array<std::uint8_t, 24> input{};
  std::ranges::copy(source.address.bytes(), input.begin());
  for (int i = 0; i < 8; ++i)
    input[16 + i] = static_cast<std::uint8_t>(rule >> (8 * i));
  return std::max<std::uint64_t>(siphash(hash_key, input), 1);
}

Duration grown(const BanRule& rule, std::uint32_t earlier_bans) {
  const double longest = static_cast<double>(rule.up_to.count());
  const double length =
      static_cast<double>(rule.duration.count()) * std::pow(rule.grow, earlier_bans);
  if (!(length < longest)) return std::max(rule.up_to, rule.duration);
  return Duration(static_cast<std::int64_t>(length));
}

bool better(const BanDecision& a, const BanDecision& b) {
  if (a.mode != b.mode) return a.mode == BanMode::enforce;
  return a.duration > b.duration;
}

}  // namespace

ProtectedSources::ProtectedSources(const Config& config) {
  prefixes_.push_back(*Prefix::parse("127.0.0.0/8"));
  prefixes_.push_back(*Prefix::parse("::1"));
  for (const ProtectFrom& from : config.protect.from)
    prefixes_.push_back(from.cidr);
  for (const Upstream& upstream : config.upstreams) {
    for (const Endpoint& endpoint : upstream.endpoints) {
      const IpAddress& address = endpoint.address.address;
      prefixes_.push_back({address, static_cast<std::uint8_t>(address.bits())});
    }
  }
}

bool ProtectedSources::overlaps(const Prefix& source) const {
  return std::ranges::any_of(prefixes_, [&](const Prefix& prefix) {
    return prefix.contains(source) || source.contains(prefix);
  });
}

BanRules::BanRules(const Config& config) : by_limit_(config.limits.size()), protected_(config) {
  for (std::uint32_t i = 0; i < config.bans.rules.size(); ++i) {
    const BanRule& rule = config.bans.rules[i];
    const auto limit = std::ranges::find(config.limits, rule.limit, &Limit::name);
    if (limit == config.limits.end()) continue;
    by_limit_[static_cast<std::size_t>(limit - config.limits.begin())].push_back(
        {i, rule_id(rule), limit->ipv6_prefix, rule});
  }
}

std::span<const BanRules::Rule> BanRules::of_limit(std::uint32_t limit) const {
  if (limit >= by_limit_.size()) return {};
  return by_limit_[limit];
}

BanTracker::BanTracker(HashKey hash_key, std::size_t sources) : hash_key_(hash_key) {
  const std::size_t sets =
      std::bit_ceil(std::max<std::size_t>((sources + kPerSet - 1) / kPerSet, 1));
  records_.resize(sets * kPerSet);
  set_mask_ = sets - 1;
}

std::optional<BanDecision> BanTracker::strike(const BanRules& rules, std::uint32_t limit,
                                              const IpAddress& source, std::uint64_t now_ns) {
  const auto of_limit = rules.of_limit(limit);
  if (of_limit.empty()) return std::nullopt;
  const Prefix prefix = source_prefix(source, of_limit.front().ipv6_prefix);
  if (rules.protected_sources().overlaps(prefix)) return std::nullopt;

  std::optional<BanDecision> decision;
  const std::lock_guard lock(mutex_);
  for (const BanRules::Rule& rule : of_limit) {
    Record& record = find(record_key(hash_key_, rule.id, prefix), now_ns);
    const auto duration = strike_one(rule.rule, record, now_ns);
    if (!duration) continue;
    const BanDecision found{prefix, *duration, rule.index, rule.rule.mode};
    if (!decision || better(found, *decision)) decision = found;
  }
  return decision;
}

// The key's record, or the least useful one of its set, made new.
BanTracker::Record& BanTracker::find(std::uint64_t key, std::uint64_t now_ns) {
  const std::span set(records_.data() + (key & set_mask_) * kPerSet, kPerSet);
  if (const auto known = std::ranges::find(set, key, &Record::key); known != set.end()) {
    return *known;
  }
  const auto victim = std::ranges::min_element(
      set, {}, [](const Record& record) { return std::pair(record.bans, record.last_strike); });
  *victim = Record{};
  victim->key = key;
  victim->window_start = now_ns;
  return *victim;
}

std::optional<Duration> BanTracker::strike_one(const BanRule& rule, Record& record,
                                               std::uint64_t now_ns) {
  if (now_ns < record.banned_until) return std::nullopt;
  if (!count_strike(rule, record, now_ns)) return std::nullopt;
  const auto memory = static_cast<std::uint64_t>(rule.up_to.count());
  if (record.bans > 0 && now_ns - record.banned_until > memory) record.bans = 0;
  const Duration duration = grown(rule, record.bans);
  ++record.bans;
  record.banned_until = now_ns + static_cast<std::uint64_t>(duration.count());
  std::ranges::fill(record.strikes, 0);
  record.window_start = record.banned_until;
  record.slot = 0;
  return duration;
}

// Adds a strike to the current eighth of the window, forgetting eighths that have left it.
bool BanTracker::count_strike(const BanRule& rule, Record& record, std::uint64_t now_ns) {
  const std::uint64_t width =
      std::max<std::uint64_t>(static_cast<std::uint64_t>(rule.within.count()) / kSlots, 1);
  const std::uint64_t since = now_ns > record.window_start ? now_ns - record.window_start : 0;
  const std::uint64_t slot = since / width;
  if (slot >= std::uint64_t{record.slot} + kSlots) {  // nothing in the window: it begins anew
    std::ranges::fill(record.strikes, 0);
    record.window_start = now_ns;
    record.slot = 0;
  } else {
    while (record.slot < slot)
      record.strikes[++record.slot % kSlots] = 0;
  }
  ++record.strikes[record.slot % kSlots];
  record.last_strike = now_ns;
  std::uint64_t sum = 0;
  for (const std::uint32_t strikes : record.strikes)
    sum += strikes;
  return sum >= rule.count;
}

}  // namespace sluice::policy
