// Who has earned a ban: strikes by rule and source within a window, growing times for repeaters.
// Called only for requests that a limit refused. Thread-safe; memory is bounded.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

struct BanDecision {
  Prefix source;  // the host for IPv4; the limit's ipv6_prefix for IPv6
  std::chrono::seconds duration{};
  BanMode mode = BanMode::enforce;
  std::string reason;  // "limit per-client exceeded 50 times within 10s (policy.yaml:30:7)"
};

class BanTracker {
 public:
  static constexpr std::size_t kMaxSources = 65536;  // tracked at a time; the oldest windows go first

  // Control thread: the rules, limits and protected sources from now on. Strikes and ban counts stay.
  void configure(std::span<const BanRule> rules, std::span<const Limit> limits, const Protect& protect);

  // A request of `client` was refused by the limit of that name. A decision is made once per ban: the same
  // source yields no second one before the first has run out.
  std::optional<BanDecision> refused(const std::string& limit, const IpAddress& client, std::uint64_t now_ns);

 private:
  struct Rule {
    BanRule config;
    std::uint8_t ipv6_prefix = 64;
  };
  struct Strikes {
    std::uint64_t window_start_ns = 0;
    std::uint32_t count = 0;
    std::uint32_t bans = 0;           // so far: the exponent of `grow`
    std::uint64_t banned_until_ns = 0;
  };
  struct KeyHash {
    std::size_t operator()(const std::pair<std::uint32_t, IpAddress>& key) const;
  };
  bool is_protected(const IpAddress& client) const;
  std::optional<BanDecision> strike(std::uint32_t rule, const IpAddress& client, std::uint64_t now_ns);
  void make_room(std::uint64_t now_ns);

  std::mutex mutex_;
  std::vector<Rule> rules_;
  std::vector<Prefix> protected_;
  std::unordered_map<std::pair<std::uint32_t, IpAddress>, Strikes, KeyHash> strikes_;
};

}  // namespace sluice::policy
