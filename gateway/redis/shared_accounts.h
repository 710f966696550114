// What gateways count together for single callers: rates, whose parameters are the caller's own, and
// sums for each period. Redis takes all that a call needs in one step, or nothing of it; what it
// turns out to have taken is charged afterwards. limit_leases.h speaks to it.
//
// What is taken and never charged, because its gateway died, stays taken: of a rate until it has
// come back, of a sum until its period ends. What Redis has forgotten it is told again: each gateway
// says how much it knows at least to be used up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

struct redisReply;

namespace sluice::gateway {

// GCRA, as in policy/limits_rate.h, by Redis' clock.
struct SharedRate {
  std::string key;  // within the prefix of this cluster
  std::uint64_t interval_ns = 0;
  std::uint64_t tolerance_ns = 0;
  std::uint64_t cost = 0;  // times the interval no more than the tolerance
  std::uint64_t ahead_ns = 0;  // it is so far ahead at least
};

struct SharedSum {
  std::string key;  // of the period
  std::int64_t limit = 0;
  std::int64_t amount = 0;  // held back
  std::int64_t spent = 0;   // so much is at least, without what is held
  std::int64_t ends = 0;    // the period; Unix time
};

struct SharedVerdict {
  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t refused = kNone;  // the first one that did, rates before sums; then nothing was taken
  std::vector<std::uint64_t> ahead_ns;  // of each rate: how far it has run ahead
  struct Sum {
    std::int64_t spent = 0;  // what is held included
    std::int64_t held = 0;
  };
  std::vector<Sum> sums;
};

// A question on its way. `done` belongs to the worker's thread, which may clear it at any time: what
// comes later is given back. Nullopt: Redis cannot be asked.
struct SharedTake {
  std::vector<SharedRate> rates;
  std::vector<SharedSum> sums;
  boost::asio::io_context* worker = nullptr;
  std::function<void(std::optional<SharedVerdict>)> done;
};

// What is to be added to what was taken; less than nothing where it was too much.
struct SharedCharge {
  std::string key;
  std::uint64_t interval_ns = 0;  // 0: a sum
  std::int64_t more = 0;          // of the rate's cost, or of the sum
  std::int64_t held = 0;          // of a sum: no longer held
  std::int64_t spent = 0;         // of a sum: so much was at least, before this
  std::int64_t ends = 0;          // of a sum
};

namespace redis {

// Scripts for Redis; what they take is written by the functions below.
extern const std::string_view kTakeScript;
extern const std::string_view kChargeScript;

using Words = std::vector<std::string>;
// EVALSHA `sha` … with `prefix` before the keys.
Words take_words(const SharedTake& take, std::string_view sha, std::string_view prefix);
Words charge_words(const SharedCharge& charge, std::string_view sha, std::string_view prefix);

// Nullopt: not an answer to it.
std::optional<SharedVerdict> verdict_in(const SharedTake& take, const redisReply* reply);
// All of it, back.
std::vector<SharedCharge> given_back(const SharedTake& take);

}  // namespace redis

}  // namespace sluice::gateway
