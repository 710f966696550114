#include "policy/balancing_candidates.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace sluice::policy {

namespace {

constexpr std::uint32_t kOverprovisioning = 140;  // percent
constexpr std::uint64_t kLeast = 10;  // percent of its weight, at the start of slow start

// In percent of `view.weight`.
std::uint64_t weight_now(const EndpointView& view, Duration slow_start) {
  const std::uint64_t full = std::uint64_t{view.weight} * 100;
  // Since a moment ago, or in a moment: clocks of different grain.
  if (slow_start.count() <= 0 || view.usable_for >= slow_start) return full;
  const auto share = std::max<std::int64_t>(view.usable_for.count(), 0) * 100 / slow_start.count();
  return view.weight * std::max<std::uint64_t>(static_cast<std::uint64_t>(share), kLeast);
}

// In percent of the load; never 0 where anybody is available.
std::uint32_t health_of(std::uint32_t available, std::uint32_t all) {
  if (all == 0 || available == 0) return 0;
  return std::clamp(available * kOverprovisioning / all, 1u, 100u);
}

// Near the golden section of the ring, so that an endpoint's turns lie evenly between the others'
// (the three-distance theorem), and without a common divisor, so that none is left out.
std::uint64_t stride_of(std::uint64_t turns) {
  constexpr double kGoldenSection = 0.6180339887498949;
  if (turns < 3) return 1;
  auto stride = static_cast<std::uint64_t>(static_cast<double>(turns) * kGoldenSection);
  while (std::gcd(stride, turns) != 1)
    ++stride;
  return stride;
}

}  // namespace

void Candidates::build(std::span<const EndpointView> endpoints, const CandidateOptions& options) {
  std::array<Count, kMaxPriority + 1> counts{};
  for (const EndpointView& endpoint : endpoints) {
    if (endpoint.weight == 0) continue;
    Count& count = counts[std::min(endpoint.priority, kMaxPriority)];
    ++count.all;
    count.available += endpoint.available ? 1 : 0;
  }
  spread(counts);
  // Panic, where all levels together cannot take the whole load.
  std::uint32_t health = 0;
  for (const Count& count : counts)
    health += health_of(count.available, count.all);
  for (Level& level : levels_) {
    const Count& count = counts[level.priority];
    level.panic = count.available == 0 ||
                  (health < 100 && count.available * 100 < count.all * options.panic_percent);
  }
  fill(endpoints, options);
}

// Which levels are used, and for how much.
void Candidates::spread(std::span<const Count> counts) {
  levels_.clear();
  std::uint32_t total = 0;
  for (const Count& count : counts)
    total += health_of(count.available, count.all);
  total = std::min(total, 100u);
  std::uint32_t left = 100;
  for (std::uint32_t priority = 0; priority < counts.size(); ++priority) {
    const Count& count = counts[priority];
    if (count.all == 0 || (total > 0 && count.available == 0)) continue;
    std::uint32_t share = left;  // nobody is available anywhere: the first level takes it all
    if (total > 0) {
      share = std::min(left, health_of(count.available, count.all) * 100 / total);
    }
    left -= share;
    levels_.push_back({.priority = priority, .share = share});  // share 0: for retries alone
  }
  if (!levels_.empty()) levels_.front().share += left;  // rounding
}

void Candidates::fill(std::span<const EndpointView> endpoints, const CandidateOptions& options) {
  members_.clear();
  running_.clear();
  weights_.assign(endpoints.size(), 0);
  warming_ = false;
  for (Level& level : levels_) {
    level.begin = static_cast<std::uint32_t>(members_.size());
    for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
      const EndpointView& endpoint = endpoints[i];
      if (std::min(endpoint.priority, kMaxPriority) != level.priority || endpoint.weight == 0 ||
          (!endpoint.available && !level.panic)) {
        continue;
      }
      weights_[i] = weight_now(endpoint, options.slow_start);
      warming_ = warming_ || (options.slow_start.count() > 0 && endpoint.usable_for < options.slow_start);
      level.uniform =
          level.uniform && (level.total == 0 || weights_[i] == weights_[members_.back()]);
      level.total += weights_[i];
      level.unit = members_.size() == level.begin ? weights_[i] : std::gcd(level.unit, weights_[i]);
      members_.push_back(i);
      running_.push_back(level.total);
    }
    level.end = static_cast<std::uint32_t>(members_.size());
    level.turns = std::max<std::uint64_t>(level.total / level.unit, 1);
    level.stride = level.uniform ? 1 : stride_of(level.turns);
  }
  std::erase_if(levels_, [](const Level& level) { return level.size() == 0; });
}

const Candidates::Level* Candidates::level(std::uint32_t random) const {
  if (levels_.size() < 2) return levels_.empty() ? nullptr : &levels_.front();
  auto left = static_cast<std::uint32_t>(std::uint64_t{random} * 100 >> 32);
  for (const Level& level : levels_) {
    if (left < level.share) return &level;
    left -= level.share;
  }
  return &levels_.front();
}

}  // namespace sluice::policy
