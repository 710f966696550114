#include "policy/limits.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sluice::policy {
namespace {

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace

// wyhash's folded multiply with a secret seed in both factors: not a MAC, but collisions cannot be chosen blindly.
std::uint64_t keyed_hash(std::uint64_t seed, std::span<const std::uint8_t> bytes) {
  std::uint64_t state = seed ^ 0xa0761d6478bd642fULL;
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t size = std::min<std::size_t>(bytes.size(), 8);
    std::memcpy(&word, bytes.data(), size);
    state = mix(word ^ seed ^ 0xe7037ed1a0b428dbULL, state ^ std::rotl(seed, 29) ^ 0x8ebc6af09c88c6e3ULL);
    bytes = bytes.subspan(size);
  }
  state = mix(state ^ 0x589965cc75374cc3ULL, seed ^ 0x1d8e4e27c47d124fULL);
  return state == 0 ? 1 : state;  // 0 marks a free entry
}

GcraRate GcraRate::of(const Limit& limit) {
  const auto period = static_cast<std::uint64_t>(limit.rate_period.count());
  const std::uint64_t count = std::max<std::uint64_t>(limit.rate_count, 1);
  const std::uint64_t emission = std::max<std::uint64_t>((period + count - 1) / count, 1);  // rounded up: never above the rate
  return {emission, emission * (std::max<std::uint64_t>(limit.burst, 1) - 1)};
}

LimitTable::LimitTable(std::size_t keys)
    : mask_(std::bit_ceil(std::max<std::size_t>(keys / kWays, 1)) - 1), buckets_(mask_ + 1), overflow_(kOverflow) {}

LimitTable::Entry* LimitTable::find_or_claim(std::uint64_t identity, std::uint64_t now_ns) {
  Bucket& bucket = buckets_[identity & mask_];
  for (Entry& entry : bucket.entries) {
    if (entry.identity.load(std::memory_order_acquire) == identity) return &entry;
  }
  for (Entry& entry : bucket.entries) {
    std::uint64_t holder = entry.identity.load(std::memory_order_acquire);
    // Its arrival time has passed: a fresh entry would decide the same for its holder, so it may go.
    if (holder != 0 && entry.tat.load(std::memory_order_acquire) > now_ns) continue;
    if (entry.identity.compare_exchange_strong(holder, identity, std::memory_order_acq_rel)) return &entry;
    if (holder == identity) return &entry;  // another worker claimed it for the same key
  }
  return nullptr;
}

Admission LimitTable::admit(const LimitSubject& subject, const GcraRate& rate, std::uint64_t now_ns) {
  Entry* entry = find_or_claim(subject.identity, now_ns);
  if (entry == nullptr) {
    overflowed_.fetch_add(1, std::memory_order_relaxed);
    entry = &overflow_[subject.network % kOverflow];
  }
  std::uint64_t tat = entry->tat.load(std::memory_order_acquire);
  for (;;) {
    const std::uint64_t base = std::max(tat, now_ns);
    if (base - now_ns > rate.tolerance_ns) return {false, base - now_ns - rate.tolerance_ns, 0};
    const std::uint64_t next = base + rate.emission_ns;
    if (entry->tat.compare_exchange_weak(tat, next, std::memory_order_acq_rel)) {
      const std::uint64_t used = next - now_ns;
      const std::uint64_t room = rate.tolerance_ns + rate.emission_ns;
      return {true, 0, used >= room ? 0 : (room - used) / rate.emission_ns};
    }
  }
}

LimitSubject LimitState::subject(const IpAddress& client, std::uint32_t route) const {
  std::array<std::uint8_t, 20> key{};
  for (const LimitKey part : limit_.key) {
    if (part == LimitKey::client_ip) {
      const IpAddress masked = client.is_v4() ? client : client.masked(limit_.ipv6_prefix);
      std::ranges::copy(masked.bytes(), key.begin());
    } else {
      std::memcpy(key.data() + 16, &route, sizeof route);
    }
  }
  const IpAddress network = client.masked(client.is_v4() ? 24 : 48);
  return {keyed_hash(seed_, key), keyed_hash(~seed_, network.bytes())};
}

Admission LimitState::admit(const IpAddress& client, std::uint32_t route, std::uint64_t now_ns) {
  return table_.admit(subject(client, route), rate_, now_ns);
}

std::vector<std::shared_ptr<LimitState>> LimitStore::resolve(std::span<const Limit> limits) {
  std::map<std::string, std::shared_ptr<LimitState>> next;
  std::vector<std::shared_ptr<LimitState>> resolved;
  for (const Limit& limit : limits) {
    const auto found = states_.find(limit.name);
    const auto same = [&](const Limit& other) {
      return other.key == limit.key && other.rate_count == limit.rate_count && other.rate_period == limit.rate_period &&
             other.burst == limit.burst && other.ipv6_prefix == limit.ipv6_prefix;
    };
    auto state = found != states_.end() && same(found->second->limit()) ? found->second
                                                                        : std::make_shared<LimitState>(limit, seed_);
    next[limit.name] = state;
    resolved.push_back(std::move(state));
  }
  states_ = std::move(next);
  return resolved;
}

}  // namespace sluice::policy
