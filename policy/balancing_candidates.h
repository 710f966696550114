// Who may be picked now: by availability, priority, slow start. Made again when one of these
// changes, so that a pick itself looks at few endpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "policy/config/common.h"

namespace sluice::policy {

// What is known of an endpoint at this moment.
struct EndpointView {
  std::uint32_t weight = 1;               // 0: never picked
  std::uint32_t priority = 0;             // lower ones first
  bool available = true;                  // healthy, not ejected
  Duration usable_for = Duration::max();  // since it came, or came back
};

struct CandidateOptions {
  Duration slow_start{};            // 0: none
  std::uint32_t panic_percent = 0;  // below this share of available endpoints, all are candidates
};

// Plain data of one worker, reused. Priorities as Envoy has them ("priority levels"): a level takes
// 1.4 times its share of available endpoints, at most all; what is left goes to the next one.
class Candidates {
 public:
  // Endpoints of one priority: a range of members(), and their running weights.
  struct Level {
    std::uint32_t priority = 0;
    std::uint32_t share = 0;  // of 100
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    std::uint64_t total = 0;  // weight
    // Round robin by weight: the weights in their greatest common unit are `turns` places on a
    // ring, and `stride` leads through all of them.
    std::uint64_t unit = 1;
    std::uint64_t turns = 1;
    std::uint64_t stride = 1;
    bool uniform = true;      // all of one weight
    bool panic = false;       // holds unavailable ones too
    std::uint32_t size() const { return end - begin; }
  };

  void build(std::span<const EndpointView> endpoints, const CandidateOptions& options);

  // By share; `random`: uniform over 32 bits. Null: nobody may be picked.
  const Level* level(std::uint32_t random) const;
  std::span<const Level> levels() const { return levels_; }            // only those with members
  std::span<const std::uint32_t> members() const { return members_; }  // indices of endpoints
  std::uint64_t running_weight(std::uint32_t member) const { return running_[member]; }
  // 0: not a candidate. In percent of the endpoint's own unit of weight.
  std::uint64_t weight(std::uint32_t endpoint) const { return weights_[endpoint]; }
  bool contains(std::uint32_t endpoint) const { return weights_[endpoint] > 0; }
  std::size_t endpoints() const { return weights_.size(); }
  // Somebody is still in slow start: build again soon.
  bool warming() const { return warming_; }

 private:
  struct Count {
    std::uint32_t all = 0;
    std::uint32_t available = 0;
  };
  void spread(std::span<const Count> counts);
  void fill(std::span<const EndpointView> endpoints, const CandidateOptions& options);

  std::vector<Level> levels_;
  std::vector<std::uint32_t> members_;
  std::vector<std::uint64_t> running_;  // of members_, within their level, inclusive
  std::vector<std::uint64_t> weights_;  // by endpoint
  bool warming_ = false;
};

inline constexpr std::uint32_t kMaxPriority = 15;

}  // namespace sluice::policy
