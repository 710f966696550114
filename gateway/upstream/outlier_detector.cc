#include "gateway/upstream/outlier_detector.h"

#include <algorithm>

namespace sluice::gateway {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::nanoseconds kMaxEjection = std::chrono::seconds(300);

// Most outcomes are successes: reading first keeps the line shared between the workers.
void clear(std::atomic<std::uint32_t>& counter) {
  if (counter.load(std::memory_order_relaxed) != 0) counter.store(0, std::memory_order_relaxed);
}

bool reaches(std::atomic<std::uint32_t>& counter, std::uint32_t threshold) {
  return counter.fetch_add(1, std::memory_order_relaxed) + 1 >= threshold && threshold != 0;
}

// Whether one endpoint more may be out.
bool may_eject(std::span<const std::shared_ptr<Endpoint>> all, std::uint32_t max_percent,
               Clock::time_point now) {
  if (all.size() < 2 || max_percent == 0) return false;
  const auto out = static_cast<std::uint64_t>(
      std::ranges::count_if(all, [&](const auto& other) { return other->ejected(now); }));
  return out == 0 || (out + 1) * 100 <= all.size() * std::uint64_t{max_percent};
}

}  // namespace

bool OutlierDetector::report(Endpoint& endpoint, std::span<const std::shared_ptr<Endpoint>> all,
                             Outcome outcome, Clock::time_point now) const {
  switch (outcome) {
    case Outcome::neutral:
      return false;
    case Outcome::success:
      clear(endpoint.consecutive_5xx_);
      clear(endpoint.consecutive_gateway_errors_);
      clear(endpoint.consecutive_connect_failures_);
      forgive(endpoint, now);
      return false;
    case Outcome::server_error:
      clear(endpoint.consecutive_connect_failures_);
      clear(endpoint.consecutive_gateway_errors_);
      return reaches(endpoint.consecutive_5xx_, config_.consecutive_5xx) &&
             eject(endpoint, all, false, now);
    case Outcome::gateway_error:
      clear(endpoint.consecutive_connect_failures_);
      [[fallthrough]];
    case Outcome::reset:
    case Outcome::timeout: {
      // Both rise, whichever ejects.
      const bool gateway =
          reaches(endpoint.consecutive_gateway_errors_, config_.consecutive_gateway_errors);
      const bool any = reaches(endpoint.consecutive_5xx_, config_.consecutive_5xx);
      return (gateway || any) && eject(endpoint, all, false, now);
    }
    case Outcome::connect_failure:
    case Outcome::connect_timeout:
      return reaches(endpoint.consecutive_connect_failures_,
                     config_.consecutive_connect_failures) &&
             eject(endpoint, all, true, now);
  }
  return false;
}

// After a healthy stretch as long as an ejection, the next one is a first one again.
void OutlierDetector::forgive(Endpoint& endpoint, Clock::time_point now) const {
  if (endpoint.ejections_in_row_.load(std::memory_order_relaxed) == 0) return;
  const auto stretch =
      now.time_since_epoch().count() - endpoint.ejected_until_.load(std::memory_order_relaxed);
  if (stretch >= config_.base_ejection_time.count())
    endpoint.ejections_in_row_.store(0, std::memory_order_relaxed);
}

bool OutlierDetector::eject(Endpoint& endpoint, std::span<const std::shared_ptr<Endpoint>> all,
                            bool for_connect, Clock::time_point now) const {
  std::int64_t before = endpoint.ejected_until_.load(std::memory_order_relaxed);
  // Requests that were under way when it was ejected do not eject it again.
  if (now.time_since_epoch().count() < before) return false;
  if (!may_eject(all, config_.max_ejection_percent, now)) return false;

  const std::uint32_t row = endpoint.ejections_in_row_.load(std::memory_order_relaxed) + 1;
  const std::chrono::nanoseconds base = config_.base_ejection_time;
  const auto longest = std::max(base, kMaxEjection);
  const auto duration =
      row > longest / std::max(base, std::chrono::nanoseconds(1)) ? longest : base * row;
  const std::int64_t until = (now + duration).time_since_epoch().count();
  if (!endpoint.ejected_until_.compare_exchange_strong(before, until, std::memory_order_relaxed))
    return false;  // another worker was first

  endpoint.ejections_in_row_.store(row, std::memory_order_relaxed);
  endpoint.ejections_.fetch_add(1, std::memory_order_relaxed);
  endpoint.ejected_for_connect_.store(for_connect, std::memory_order_relaxed);
  endpoint.changes_->add();
  endpoint.consecutive_5xx_.store(0, std::memory_order_relaxed);
  endpoint.consecutive_gateway_errors_.store(0, std::memory_order_relaxed);
  // When its time is over, one more refusal suffices: nobody waits for a host that is still down.
  const std::uint32_t threshold = config_.consecutive_connect_failures;
  endpoint.consecutive_connect_failures_.store(for_connect && threshold > 0 ? threshold - 1 : 0,
                                               std::memory_order_relaxed);
  return true;
}

bool OutlierDetector::eject_for_success_rate(Endpoint& endpoint,
                                             std::span<const std::shared_ptr<Endpoint>> all,
                                             Clock::time_point now) const {
  return eject(endpoint, all, false, now);
}

void OutlierDetector::reached(Endpoint& endpoint) {
  if (!endpoint.ejected_for_connect_.load(std::memory_order_relaxed)) return;
  endpoint.ejected_for_connect_.store(false, std::memory_order_relaxed);
  endpoint.ejected_until_.store(0, std::memory_order_relaxed);
  endpoint.came(Clock::now());
  endpoint.changes_->add();
  endpoint.consecutive_connect_failures_.store(0, std::memory_order_relaxed);
}

}  // namespace sluice::gateway
