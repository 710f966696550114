#include "gateway/redis/shared_accounts.h"

#include <array>
#include <cstdio>
#include <hiredis/hiredis.h>

namespace sluice::gateway::redis {
namespace {

// After a period's end calls of it may still be under way.
constexpr std::int64_t kAfterwards = 24 * 3600;

std::string micros(std::uint64_t ns) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%llu.%03u", static_cast<unsigned long long>(ns / 1000),
                static_cast<unsigned>(ns % 1000));
  return text.data();
}

std::string joined(std::string_view prefix, std::string_view key) {
  return std::string(prefix) + ":" + std::string(key);
}

}  // namespace

// KEYS: the rates' theoretical arrival times, then the sums. ARGV: how many rates; of each rate
// interval and tolerance in microseconds with decimals, cost, and how far ahead it is at least; of
// each sum limit, amount, when it may be forgotten, and what is spent at least. Returns which one has refused (from 1; 0: none), and then of each rate how
// many microseconds it is ahead, and of each sum what is spent and held.
const std::string_view kTakeScript = R"lua(
local rates = tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local refused, at, after, before = 0, 2, {}, {}
for i = 1, rates do
  local interval, tolerance, cost = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local tat = tonumber(redis.call('GET', KEYS[i]) or now)
  tat = math.max(tat, now + tonumber(ARGV[at + 3]))
  at = at + 4
  before[i] = tat
  after[i] = tat + interval * cost
  if refused == 0 and after[i] - now > tolerance + 1 then refused = i end
end
local out = {}
for i = rates + 1, #KEYS do
  local limit, amount = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local spent = tonumber(redis.call('HGET', KEYS[i], 'spent') or 0)
  local unknown = tonumber(ARGV[at + 3]) - spent + tonumber(redis.call('HGET', KEYS[i], 'held') or 0)
  if unknown > 0 then
    spent = redis.call('HINCRBY', KEYS[i], 'spent', string.format('%.0f', unknown))
    redis.call('EXPIREAT', KEYS[i], ARGV[at + 2])
  end
  at = at + 4
  if refused == 0 and spent + amount > limit then refused = i end
end
out[1] = refused
for i = 1, rates do
  local tat = before[i]
  if refused == 0 then
    tat = after[i]
    if tat > now then
      redis.call('SET', KEYS[i], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
    end
  end
  out[i + 1] = math.ceil(tat - now)
end
at = 2 + 4 * rates
for i = rates + 1, #KEYS do
  if refused == 0 then
    redis.call('HINCRBY', KEYS[i], 'spent', ARGV[at + 1])
    redis.call('HINCRBY', KEYS[i], 'held', ARGV[at + 1])
    redis.call('EXPIREAT', KEYS[i], ARGV[at + 2])
  end
  at = at + 4
  out[#out + 1] = tonumber(redis.call('HGET', KEYS[i], 'spent') or 0)
  out[#out + 1] = tonumber(redis.call('HGET', KEYS[i], 'held') or 0)
end
return out
)lua";

// KEYS[1]. ARGV: interval in microseconds with decimals, "0" of a sum; how much more; what is held
// no longer; when the sum may be forgotten; what was spent at least before.
const std::string_view kChargeScript = R"lua(
if ARGV[1] == '0' then
  if tonumber(ARGV[2]) <= 0 and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
  local settled = tonumber(redis.call('HGET', KEYS[1], 'spent') or 0) - tonumber(redis.call('HGET', KEYS[1], 'held') or 0)
  local unknown = math.max(tonumber(ARGV[5]) - settled, 0)
  redis.call('HINCRBY', KEYS[1], 'spent', string.format('%.0f', tonumber(ARGV[2]) + unknown))
  redis.call('HINCRBY', KEYS[1], 'held', 0 - tonumber(ARGV[3]))
  redis.call('EXPIREAT', KEYS[1], ARGV[4])
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now end
tat = tat + tonumber(ARGV[1]) * tonumber(ARGV[2])
if tat <= now then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
end
return 0
)lua";

Words take_words(const SharedTake& take, std::string_view sha, std::string_view prefix) {
  Words words{"EVALSHA", std::string(sha), std::to_string(take.rates.size() + take.sums.size())};
  for (const SharedRate& rate : take.rates)
    words.push_back(joined(prefix, rate.key));
  for (const SharedSum& sum : take.sums)
    words.push_back(joined(prefix, sum.key));
  words.push_back(std::to_string(take.rates.size()));
  for (const SharedRate& rate : take.rates) {
    words.push_back(micros(rate.interval_ns));
    words.push_back(micros(rate.tolerance_ns));
    words.push_back(std::to_string(rate.cost));
    words.push_back(micros(rate.ahead_ns));
  }
  for (const SharedSum& sum : take.sums) {
    words.push_back(std::to_string(sum.limit));
    words.push_back(std::to_string(sum.amount));
    words.push_back(std::to_string(sum.ends + kAfterwards));
    words.push_back(std::to_string(sum.spent));
  }
  return words;
}

Words charge_words(const SharedCharge& charge, std::string_view sha, std::string_view prefix) {
  return {"EVALSHA",
          std::string(sha),
          "1",
          joined(prefix, charge.key),
          charge.interval_ns == 0 ? "0" : micros(charge.interval_ns),
          std::to_string(charge.more),
          std::to_string(charge.held),
          std::to_string(charge.ends + kAfterwards),
          std::to_string(charge.spent)};
}

std::optional<SharedVerdict> verdict_in(const SharedTake& take, const redisReply* reply) {
  const std::size_t wanted = 1 + take.rates.size() + 2 * take.sums.size();
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY || reply->elements != wanted) return {};
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < wanted; ++i) {
    if (reply->element[i]->type != REDIS_REPLY_INTEGER) return {};
    numbers.push_back(reply->element[i]->integer);
  }
  const std::size_t all = take.rates.size() + take.sums.size();
  if (numbers[0] < 0 || numbers[0] > static_cast<std::int64_t>(all)) return {};
  SharedVerdict verdict;
  if (numbers[0] > 0) verdict.refused = static_cast<std::size_t>(numbers[0] - 1);
  std::size_t at = 1;
  for (std::size_t i = 0; i < take.rates.size(); ++i, ++at) {
    const auto ahead = static_cast<std::uint64_t>(numbers[at] < 0 ? 0 : numbers[at]);
    verdict.ahead_ns.push_back(ahead * 1000);
  }
  for (std::size_t i = 0; i < take.sums.size(); ++i, at += 2)
    verdict.sums.push_back({.spent = numbers[at], .held = numbers[at + 1]});
  return verdict;
}

std::vector<SharedCharge> given_back(const SharedTake& take) {
  std::vector<SharedCharge> out;
  for (const SharedRate& rate : take.rates) {
    out.push_back({.key = rate.key,
                   .interval_ns = rate.interval_ns,
                   .more = -static_cast<std::int64_t>(rate.cost)});
  }
  for (const SharedSum& sum : take.sums)
    out.push_back({.key = sum.key, .more = -sum.amount, .held = sum.amount, .ends = sum.ends});
  return out;
}

}  // namespace sluice::gateway::redis
