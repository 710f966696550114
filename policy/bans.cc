#include "policy/bans.h"

#include <algorithm>
#include <cmath>

#include "policy/limits.h"

namespace sluice::policy {
namespace {

std::string seconds_text(Duration duration) {
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  return milliseconds % 1000 == 0 ? std::to_string(milliseconds / 1000) + "s" : std::to_string(milliseconds) + "ms";
}

}  // namespace

std::size_t BanTracker::KeyHash::operator()(const std::pair<std::uint32_t, IpAddress>& key) const {
  return keyed_hash(0x5bd1e9955bd1e995ULL + key.first, key.second.bytes());
}

void BanTracker::configure(std::span<const BanRule> rules, std::span<const Limit> limits, const Protect& protect) {
  const std::lock_guard lock(mutex_);
  rules_.clear();
  for (const BanRule& rule : rules) {
    const auto limit = std::ranges::find(limits, rule.limit, &Limit::name);
    rules_.push_back({rule, limit == limits.end() ? std::uint8_t{64} : limit->ipv6_prefix});
  }
  protected_.clear();
  for (const ProtectFrom& from : protect.from) {
    if (from.to_ports.empty() && from.interfaces.empty()) protected_.push_back(from.cidr);
  }
}

bool BanTracker::is_protected(const IpAddress& client) const {
  return client.is_loopback() || std::ranges::any_of(protected_, [&](const Prefix& prefix) { return prefix.contains(client); });
}

std::optional<BanDecision> BanTracker::refused(const std::string& limit, const IpAddress& client, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (rules_.empty() || is_protected(client)) return std::nullopt;
  std::optional<BanDecision> decision;
  for (std::uint32_t rule = 0; rule < rules_.size(); ++rule) {
    if (rules_[rule].config.limit != limit) continue;
    auto made = strike(rule, client, now_ns);
    if (made && (!decision || made->duration > decision->duration)) decision = std::move(made);
  }
  return decision;
}

std::optional<BanDecision> BanTracker::strike(std::uint32_t rule, const IpAddress& client, std::uint64_t now_ns) {
  const BanRule& config = rules_[rule].config;
  const int length = client.is_v4() ? 32 : rules_[rule].ipv6_prefix;
  const IpAddress source = client.masked(length);
  if (strikes_.size() >= kMaxSources) make_room(now_ns);
  Strikes& strikes = strikes_[{rule, source}];
  const auto within = static_cast<std::uint64_t>(config.within.count());
  if (strikes.count == 0 || now_ns - strikes.window_start_ns > within) {
    strikes.window_start_ns = now_ns;
    strikes.count = 0;
  }
  ++strikes.count;
  if (strikes.count < config.count || now_ns < strikes.banned_until_ns) return std::nullopt;
  const double grown = static_cast<double>(config.duration.count()) * std::pow(config.grow, strikes.bans);
  const auto lasts = Duration(static_cast<std::int64_t>(std::min(grown, static_cast<double>(config.up_to.count()))));
  strikes.count = 0;
  ++strikes.bans;
  strikes.banned_until_ns = now_ns + static_cast<std::uint64_t>(lasts.count());
  BanDecision decision;
  decision.source = {source, static_cast<std::uint8_t>(length)};
  decision.duration = std::max(std::chrono::ceil<std::chrono::seconds>(lasts), std::chrono::seconds(1));
  decision.mode = config.mode;
  decision.reason = "limit " + config.limit + " exceeded " + std::to_string(config.count) + " times within " +
                    seconds_text(config.within) + " (" + config.where.to_string() + ")";
  return decision;
}

// Those whose window and ban are over go first; if that frees nothing, the oldest window goes.
void BanTracker::make_room(std::uint64_t now_ns) {
  std::erase_if(strikes_, [&](const auto& entry) {
    const auto within = static_cast<std::uint64_t>(rules_[std::min<std::size_t>(entry.first.first, rules_.size() - 1)].config.within.count());
    return now_ns - entry.second.window_start_ns > within && now_ns > entry.second.banned_until_ns;
  });
  if (strikes_.size() < kMaxSources) return;
  strikes_.erase(std::ranges::min_element(strikes_, {}, [](const auto& entry) { return entry.second.window_start_ns; }));
}

}  // namespace sluice::policy
