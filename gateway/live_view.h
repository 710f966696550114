// A generation as `sluice explain` sees it: its endpoints and limits at this moment.
#pragma once

#include "gateway/worker_config.h"
#include "policy/explain.h"

namespace sluice::gateway {

// `generation` must outlive it. Any thread.
class LiveView final : public policy::LiveGateway {
 public:
  explicit LiveView(const PolicyGeneration& generation) : generation_(generation) {}

  std::vector<EndpointState> endpoints(std::uint32_t upstream) const override;
  std::optional<LimitState> limit(std::uint32_t limit, const policy::RequestView& request,
                                  std::uint64_t route_id, std::uint32_t cost) const override;

 private:
  const PolicyGeneration& generation_;
};

}  // namespace sluice::gateway
