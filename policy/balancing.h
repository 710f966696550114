// Which endpoint next: pure picks over a view of the endpoints' state.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

struct EndpointView {
  std::uint32_t weight = 1;  // 0: never, unless all are 0
  std::uint32_t active = 0;  // requests under way
  bool available = true;     // healthy and not ejected
  bool excluded = false;     // already tried for this request
};

// One per worker and upstream; not shared.
class Balancer {
 public:
  static constexpr std::size_t kNone = SIZE_MAX;

  explicit Balancer(LbPolicy policy = LbPolicy::round_robin, std::uint32_t offset = 0)
      : policy_(policy), offset_(offset) {}

  // `random` is the caller's uniform 64 bits. An available endpoint that is not excluded; when none is
  // available, any that is not excluded (panic); kNone when all are excluded or there are none.
  std::size_t pick(std::span<const EndpointView> endpoints, std::uint64_t random);

 private:
  std::size_t round_robin(std::span<const EndpointView> endpoints, bool panic);
  std::size_t least_request(std::span<const EndpointView> endpoints, std::uint64_t random, bool panic) const;
  std::size_t by_weight(std::span<const EndpointView> endpoints, std::uint64_t random, bool panic,
                        std::size_t skip = kNone) const;

  LbPolicy policy_;
  std::uint32_t offset_;               // workers start at different endpoints
  std::vector<std::int64_t> current_;  // smooth weighted round robin
};

}  // namespace sluice::policy
