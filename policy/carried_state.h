// What a gateway remembers for the one that takes its place: rates that are used up, who is banned
// or diverted, and how often somebody was, what the names of endpoints stood for, issuers' public
// keys. As bytes of a version: another one is dropped, never guessed at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/address.h"
#include "policy/bans.h"
#include "policy/bans_diverted.h"
#include "policy/limits_rate.h"
#include "policy/siphash.h"

namespace sluice::policy {

// Times are monotonic; after a boot they are carried by the wall clock.
struct Clocks {
  std::string boot;  // of which kernel
  std::uint64_t monotonic_ns = 0;
  std::int64_t wall_ns = 0;
};

struct CarriedRate {
  std::string limit;
  std::uint64_t identity = 0;  // of what makes it the same limit
  std::vector<CarriedCell> keys;
  std::vector<CarriedCell> overflow;
};

struct CarriedAddress {
  SocketAddress address;
  std::uint32_t weight = 1;
  std::uint32_t priority = 0;
  std::string server_name;
  bool operator==(const CarriedAddress&) const = default;
};

// An endpoint of the policy that is a name.
struct CarriedName {
  std::string upstream;
  std::string endpoint;
  std::vector<CarriedAddress> addresses;
  bool operator==(const CarriedName&) const = default;
};

// What an issuer's URL said last.
struct CarriedKeys {
  std::string source;
  std::string text;
  bool operator==(const CarriedKeys&) const = default;
};

struct CarriedState {
  // Of all limits together; what is beyond it is left out, and begins anew.
  static constexpr std::size_t kMaxCells = 4'000'000;
  static constexpr std::size_t kMaxBytes = 96UL << 20;

  HashKey limit_key;  // by which tags were made
  std::vector<CarriedRate> rates;
  HashKey ban_key;
  std::vector<BanRecord> bans;
  std::vector<DivertedSource> diverted;
  std::vector<CarriedName> names;
  std::vector<CarriedKeys> keys;

  bool is_empty() const {
    return rates.empty() && bans.empty() && diverted.empty() && names.empty() && keys.empty();
  }
};

std::string serialize(const CarriedState& state, const Clocks& now);
// Never reads beyond `bytes`. Errors: another version, or damaged.
std::expected<CarriedState, std::string> deserialize_state(std::string_view bytes,
                                                           const Clocks& now);

}  // namespace sluice::policy
