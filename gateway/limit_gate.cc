#include "gateway/limit_gate.h"

#include <algorithm>
#include <chrono>

#include "gateway/clocks.h"
#include "gateway/redis/limit_leases.h"
#include "gateway/worker.h"
#include "policy/protect.h"

namespace sluice::gateway {
namespace {

bool is_rate(const policy::LimitHandle& limit) {
  return !limit.is_concurrency() && !limit.is_cluster() && !limit.counts_tokens();
}

bool only_counts(const policy::LimitHandle& limit) {
  return limit.limit().action == policy::LimitAction::count;
}

}  // namespace

LimitGate::Result LimitGate::begin(const WorkerConfig& config,
                                   std::span<const policy::UsedLimit> limits,
                                   const policy::RequestView& request, std::uint64_t route_id,
                                   std::uint64_t now_ns) {
  begin_for(config, request);
  if (policy::is_protected(config.policy().protect, request)) return Result::passed;
  // Those that are for this client.
  std::array<policy::UsedLimit, kMaxLimits> mine;
  std::size_t count = 0;
  for (const policy::UsedLimit& limit : limits.first(std::min(limits.size(), kMaxLimits)))
    if (config.limit(limit.index).counts(source_)) mine[count++] = limit;
  limits = std::span(mine).first(count);
  Keys keys;
  for (std::size_t i = 0; i < limits.size(); ++i)
    keys[i] = config.limit(limits[i].index).keys(request, route_id);
  if (!take_places(limits, keys) || !peek_rates(limits, keys, now_ns) ||
      !take_rates(limits, keys, now_ns) || !take_leased(limits, keys, now_ns)) {
    return Result::refused;
  }
  return go_on();
}

void LimitGate::begin_for(const WorkerConfig& config, const policy::RequestView& request) {
  config_ = &config;
  source_ = request.client;
  claimed_ = request.client_claimed;
}

// A call that may take more than a limit ever has is let in when nothing of it is used up.
LimitGate::Result LimitGate::begin_tokens(const WorkerConfig& config,
                                          std::span<const policy::UsedLimit> limits,
                                          const policy::RequestView& request,
                                          std::uint64_t route_id, std::uint64_t tokens,
                                          std::uint64_t now_ns) {
  begin_for(config, request);
  if (policy::is_protected(config.policy().protect, request)) return Result::passed;
  for (const policy::UsedLimit& used : limits) {
    const policy::LimitHandle& limit = config.limit(used.index);
    if (!limit.counts_tokens()) continue;
    const auto cost = static_cast<std::uint32_t>(std::min(tokens, limit.limit().burst));
    const Asked asked{used.index, cost, limit.keys(request, route_id)};
    if (limit.is_cluster()) {
      const policy::ClusterVerdict found = limit.cluster()->admit(asked.keys, now_ns, cost);
      if (found.decide) {
        asked_.push_back(asked);
      } else if (!take_tokens(asked, found.verdict, false)) {
        return Result::refused;
      }
    } else if (!take_tokens(asked, limit.admit(asked.keys, now_ns, cost), false)) {
      return Result::refused;
    }
  }
  return go_on();
}

// `shared`: Redis has counted it.
bool LimitGate::take_tokens(const Asked& asked, const policy::LimitVerdict& verdict, bool shared) {
  if (!verdict.allowed) return !exceeded(asked.limit, verdict);
  tokens_.push_back({asked, shared});
  allowed(asked.limit);
  return true;
}

void LimitGate::settle_tokens(std::uint64_t used) {
  if (tokens_.empty()) return;
  const std::uint64_t now = steady_now();
  for (const TakenTokens& taken : std::exchange(tokens_, {})) {
    const policy::LimitHandle& limit = config_->limit(taken.asked.limit);
    const policy::LimitKeys& keys = taken.asked.keys;
    if (!limit.is_cluster()) {
      limit.settle(keys, now, taken.asked.cost, used);
      continue;
    }
    limit.cluster()->settle(keys, now, taken.asked.cost, used);
    worker_.leases().settle(*limit.cluster(), keys.own, taken.shared ? taken.asked.cost : 0, used);
  }
}

void LimitGate::release() {
  settle_tokens(0);
  places_.clear();
  asked_.clear();
  delay_ns_ = 0;
  timer_.cancel();
  if (decision_) std::exchange(decision_, nullptr)->done = nullptr;
}

bool LimitGate::take_places(std::span<const policy::UsedLimit> limits, const Keys& keys) {
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const policy::LimitHandle& limit = config_->limit(limits[i].index);
    if (!limit.is_concurrency()) continue;
    for (std::uint32_t taken = 0; taken < limits[i].cost; ++taken) {
      if (auto place = limit.acquire(keys[i])) {
        places_.push_back(std::move(*place));
        if (taken == 0) allowed(limits[i].index);
        continue;
      }
      constexpr std::uint64_t kSoon = 1'000'000'000;  // nobody knows when a place is given back
      if (exceeded(limits[i].index, {.allowed = false, .retry_after_ns = kSoon})) return false;
      break;
    }
  }
  return true;
}

// With several rates: none is used up by what another one refuses.
bool LimitGate::peek_rates(std::span<const policy::UsedLimit> limits, const Keys& keys,
                           std::uint64_t now_ns) {
  if (limits.size() < 2) return true;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const policy::LimitHandle& limit = config_->limit(limits[i].index);
    if (!is_rate(limit) || only_counts(limit)) continue;
    const policy::LimitVerdict verdict = limit.peek(keys[i], now_ns, limits[i].cost);
    if (!verdict.allowed && exceeded(limits[i].index, verdict)) return false;
  }
  return true;
}

bool LimitGate::take_rates(std::span<const policy::UsedLimit> limits, const Keys& keys,
                           std::uint64_t now_ns) {
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const policy::LimitHandle& limit = config_->limit(limits[i].index);
    if (!is_rate(limit)) continue;
    const policy::LimitVerdict verdict = limit.admit(keys[i], now_ns, limits[i].cost);
    if (!verdict.allowed) {
      if (exceeded(limits[i].index, verdict)) return false;
      continue;
    }
    delay_ns_ = std::max(delay_ns_, verdict.delay_ns);
    if (verdict.delay_ns > 0) {
      worker_.metrics().limit_verdict(config_->slots().limits[limits[i].index],
                                      LimitOutcome::delayed);
    } else {
      allowed(limits[i].index);
    }
  }
  return true;
}

bool LimitGate::take_leased(std::span<const policy::UsedLimit> limits, const Keys& keys,
                            std::uint64_t now_ns) {
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const policy::LimitHandle& limit = config_->limit(limits[i].index);
    if (!limit.is_cluster() || limit.counts_tokens()) continue;
    const policy::ClusterVerdict found = limit.cluster()->admit(keys[i], now_ns, limits[i].cost);
    if (found.decide) {
      asked_.push_back({limits[i].index, limits[i].cost, keys[i]});
      continue;
    }
    if (found.ask) worker_.leases().ask(limit.cluster(), found.key);
    if (found.verdict.allowed) {
      allowed(limits[i].index);
    } else if (exceeded(limits[i].index, found.verdict)) {
      return false;
    }
  }
  return true;
}

LimitGate::Result LimitGate::go_on() {
  if (!asked_.empty()) {
    ask(asked_.back());
    return Result::waiting;
  }
  if (delay_ns_ == 0) return Result::passed;
  worker_.wheel().arm(timer_, std::chrono::nanoseconds(std::exchange(delay_ns_, 0)));
  return Result::waiting;
}

void LimitGate::ask(const Asked& asked) {
  decision_ = std::make_shared<LimitDecision>();
  decision_->worker = &worker_.io();
  decision_->done = [this](std::optional<bool> answer) { answered(answer); };
  if (config_->limit(asked.limit).counts_tokens()) {
    decision_->unwanted = [&leases = worker_.leases(),
                           table = config_->limit(asked.limit).cluster(), key = asked.keys.own,
                           cost = asked.cost] { leases.settle(*table, key, cost, 0); };
  }
  worker_.leases().decide(config_->limit(asked.limit).cluster(), asked.keys, asked.cost, decision_);
  worker_.wheel().arm(timer_, config_->policy().redis->deadline);
}

// Worker's thread; from the event loop.
void LimitGate::answered(std::optional<bool> answer) {
  if (decision_) std::exchange(decision_, nullptr)->done = nullptr;
  timer_.cancel();
  const Asked asked = asked_.back();
  asked_.pop_back();
  const policy::LimitHandle& limit = config_->limit(asked.limit);
  policy::LimitVerdict verdict;
  if (answer) {
    const std::uint64_t interval = limit.cluster()->parameters().emission_interval;
    verdict = {.allowed = *answer, .retry_after_ns = interval, .reset_ns = interval};
  } else {
    verdict = limit.cluster()->admit(asked.keys, steady_now(), asked.cost, true).verdict;
  }
  if (limit.counts_tokens()) {
    if (!take_tokens(asked, verdict, answer.has_value())) return user_->on_limits_refused();
  } else if (verdict.allowed) {
    allowed(asked.limit);
  } else if (exceeded(asked.limit, verdict)) {
    return user_->on_limits_refused();
  }
  if (go_on() == Result::passed) user_->on_limits_passed();
}

// Either Redis was too slow, or the wait is over.
void LimitGate::on_timer() {
  if (decision_) return answered(std::nullopt);
  user_->on_limits_passed();
}

void LimitGate::allowed(std::uint32_t limit) {
  worker_.metrics().limit_verdict(config_->slots().limits[limit], LimitOutcome::allowed);
}

// True: the request goes no further.
bool LimitGate::exceeded(std::uint32_t limit, const policy::LimitVerdict& verdict) {
  const bool counted = only_counts(config_->limit(limit));
  worker_.metrics().limit_verdict(config_->slots().limits[limit],
                                  counted ? LimitOutcome::counted : LimitOutcome::rejected);
  const bool banned = worker_.strike(*config_, limit, source_, claimed_);
  if (counted) return false;
  release();
  banned_ = banned;
  refused_by_ = limit;
  verdict_ = verdict;
  return true;
}

}  // namespace sluice::gateway
