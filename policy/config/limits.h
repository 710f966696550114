// The typed form of `limits` and `bans`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class LimitKey { client_ip, route };

struct Limit {
  std::string name;
  std::vector<LimitKey> key{LimitKey::client_ip};
  std::uint64_t rate_count = 0;  // `rate: 100/s`: 100 per 1 s
  Duration rate_period = 1s;
  std::uint64_t burst = 0;  // left out in the file: the rate's count
  std::uint8_t ipv6_prefix = 64;
  Location where;
};

enum class BanMode { enforce, audit };

struct BanRule {
  std::string limit;  // when: { limit, count, within }
  std::uint32_t count = 50;
  Duration within = 10s;
  Duration duration = 5min;  // for
  double grow = 1.0;         // each further ban of the same source lasts so many times longer …
  Duration up_to = 24h;      // … but never longer than this
  BanMode mode = BanMode::enforce;
  Location where;
};

struct BansConfig {
  std::uint32_t max = 100000;
  std::vector<BanRule> rules;
};

}  // namespace sluice::policy
