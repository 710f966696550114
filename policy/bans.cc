#include "policy/bans.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <iterator>
#include <string>

namespace sluice::policy {

namespace {

constexpr HashKey kIdKey{0x736c756963652d62, 0x616e2d72756c6573};
constexpr HashKey kUpstreamKey{0x736c756963652d75, 0x70737472656d6964};

std::uint64_t rule_id(const BanRule& rule) {
  const std::string cause =
      rule.event ? std::to_string(static_cast<int>(*rule.event)) + " " + rule.route : rule.limit;
  return siphash(kIdKey, cause + "\n" + std::to_string(rule.count) + "\n" +
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
  for (const Prefix& proxy : config.trusted_proxies)
    prefixes_.push_back(proxy);
  for (const Upstream& upstream : config.upstreams) {
    for (const Endpoint& endpoint : upstream.endpoints) {
      if (endpoint.is_name()) continue;  // its addresses come and go
      const IpAddress& address = endpoint.address.address;
      prefixes_.push_back({address, static_cast<std::uint8_t>(address.bits())});
    }
  }
  if (config.redis && config.redis->name.empty()) {
    const IpAddress& address = config.redis->address.address;
    prefixes_.push_back({address, static_cast<std::uint8_t>(address.bits())});
  }
}

bool ProtectedSources::overlaps(const Prefix& source) const {
  return std::ranges::any_of(prefixes_, [&](const Prefix& prefix) {
    return prefix.contains(source) || source.contains(prefix);
  });
}

BanRules::BanRules(const Config& config) : by_limit_(config.limits.size()), protected_(config) {
  const auto period = static_cast<std::uint64_t>(config.bans.rate_period.count());
  const std::uint64_t count = std::max<std::uint64_t>(config.bans.rate_count, 1);
  ban_interval_ = (period + count - 1) / count;
  ban_tolerance_ = ban_interval_ * count;
  for (std::uint32_t i = 0; i < config.upstreams.size(); ++i) {
    const auto named = [&](const BanRule& rule) {
      return rule.action == BanAction::route && rule.upstream == config.upstreams[i].name;
    };
    if (std::ranges::any_of(config.bans.rules, named)) {
      upstreams_.emplace_back(upstream_id(config.upstreams[i].name), i);
    }
  }
  for (std::uint32_t i = 0; i < config.bans.rules.size(); ++i) {
    const BanRule& rule = config.bans.rules[i];
    Rule made{
        .index = i, .id = rule_id(rule), .upstream = upstream_id(rule.upstream), .rule = rule};
    if (rule.event) {
      const auto route = std::ranges::find(config.routes, rule.route, &Route::name);
      if (route != config.routes.end()) {
        made.route = static_cast<std::uint32_t>(route - config.routes.begin());
      }
      made.ipv6_prefix = rule.ipv6_prefix.value_or(64);
      by_event_[static_cast<std::size_t>(*rule.event)].push_back(std::move(made));
      continue;
    }
    const auto limit = std::ranges::find(config.limits, rule.limit, &Limit::name);
    if (limit == config.limits.end()) continue;
    made.ipv6_prefix = rule.ipv6_prefix.value_or(limit->ipv6_prefix);
    by_limit_[static_cast<std::size_t>(limit - config.limits.begin())].push_back(std::move(made));
  }
}

std::optional<std::uint32_t> BanRules::find_upstream(std::uint64_t id) const {
  const auto found =
      std::ranges::find(upstreams_, id, &std::pair<std::uint64_t, std::uint32_t>::first);
  if (found == upstreams_.end()) return std::nullopt;
  return found->second;
}

std::uint64_t upstream_id(std::string_view name) {
  return std::max<std::uint64_t>(siphash(kUpstreamKey, name), 1);  // 0 is kRefuseSource
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

std::vector<BanRecord> BanTracker::records() const {
  const std::lock_guard lock(mutex_);
  std::vector<BanRecord> out;
  std::ranges::copy_if(records_, std::back_inserter(out),
                       [](const BanRecord& record) { return record.key != 0; });
  return out;
}

void BanTracker::take_over(HashKey hash_key, const std::vector<BanRecord>& records) {
  const std::lock_guard lock(mutex_);
  hash_key_ = hash_key;
  for (const BanRecord& record : records) {
    const std::span set(records_.data() + (record.key & set_mask_) * kPerSet, kPerSet);
    const auto place = std::ranges::find(set, std::uint64_t{0}, &BanRecord::key);
    if (place != set.end()) *place = record;
  }
}

std::optional<BanDecision> BanTracker::strike(const BanRules& rules, std::uint32_t limit,
                                              const IpAddress& source, std::uint64_t now_ns) {
  std::optional<BanDecision> decision;
  for (const BanRules::Rule& rule : rules.of_limit(limit))
    strike_rule(rules, rule, source, now_ns, decision);
  return decision;
}

std::optional<BanDecision> BanTracker::strike(const BanRules& rules, BanEvent event,
                                              std::optional<std::uint32_t> route,
                                              const IpAddress& source, std::uint64_t now_ns) {
  std::optional<BanDecision> decision;
  for (const BanRules::Rule& rule : rules.of_event(event)) {
    if (rule.rule.route.empty() || (rule.route && rule.route == route)) {
      strike_rule(rules, rule, source, now_ns, decision);
    }
  }
  return decision;
}

void BanTracker::strike_rule(const BanRules& rules, const BanRules::Rule& rule,
                             const IpAddress& source, std::uint64_t now_ns,
                             std::optional<BanDecision>& decision) {
  const Prefix prefix = source_prefix(source, rule.ipv6_prefix);
  if (rules.protected_sources().overlaps(prefix)) return;
  const std::lock_guard lock(mutex_);
  Record& record = find(record_key(hash_key_, rule.id, prefix), now_ns);
  const auto duration = strike_one(rules, rule.rule, record, now_ns);
  if (!duration) return;
  const BanDecision found{prefix,         *duration,        rule.index,
                          rule.rule.mode, rule.rule.action, rule.upstream};
  if (!decision || better(found, *decision)) decision = found;
}

BanTracker::Record* BanTracker::find_known(std::uint64_t key) {
  const std::span set(records_.data() + (key & set_mask_) * kPerSet, kPerSet);
  const auto known = std::ranges::find(set, key, &Record::key);
  return known == set.end() ? nullptr : &*known;
}

template <typename Visit>
void BanTracker::each_known(const BanRules& rules, const Prefix& source, Visit visit) {
  const std::lock_guard lock(mutex_);
  rules.each([&](const BanRules::Rule& rule) {
    if (source_prefix(source.address, rule.ipv6_prefix) != source) return;
    if (Record* known = find_known(record_key(hash_key_, rule.id, source))) visit(*known);
  });
}

void BanTracker::lift(const BanRules& rules, const Prefix& source, std::uint64_t now_ns) {
  each_known(rules, source, [now_ns](Record& record) {
    if (record.banned_until > now_ns) record.banned_until = record.window_start = now_ns;
  });
}

void BanTracker::forget(const BanRules& rules, const Prefix& source) {
  each_known(rules, source, [](Record& record) { record = Record{}; });
}

// The key's record, or the least useful one of its set, made new.
BanTracker::Record& BanTracker::find(std::uint64_t key, std::uint64_t now_ns) {
  if (Record* known = find_known(key)) return *known;
  const std::span set(records_.data() + (key & set_mask_) * kPerSet, kPerSet);
  const auto victim = std::ranges::min_element(
      set, {}, [](const Record& record) { return std::pair(record.bans, record.last_strike); });
  *victim = Record{};
  victim->key = key;
  victim->window_start = now_ns;
  return *victim;
}

// Refused bans take nothing: the source strikes again, and is banned when there is room.
bool BanTracker::may_ban(const BanRules& rules, const BanRule& rule, std::uint64_t now_ns) {
  if (rule.mode == BanMode::audit) return true;
  const std::uint64_t next = std::max(bans_tat_, now_ns) + rules.ban_interval();
  if (next - now_ns > rules.ban_tolerance()) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  bans_tat_ = next;
  return true;
}

std::optional<Duration> BanTracker::strike_one(const BanRules& rules, const BanRule& rule,
                                               Record& record, std::uint64_t now_ns) {
  if (now_ns < record.banned_until) return std::nullopt;
  if (!count_strike(rule, record, now_ns) || !may_ban(rules, rule, now_ns)) return std::nullopt;
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
