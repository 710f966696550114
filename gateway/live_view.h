// A generation as `sluice explain` sees it: its endpoints, limits and bans at this moment.
#pragma once

#include "gateway/worker_config.h"
#include "policy/bans_diverted.h"
#include "policy/explain.h"

namespace sluice::gateway {

// `generation` and `diverted` must outlive it. Any thread.
class LiveView final : public policy::LiveGateway {
 public:
  LiveView(const PolicyGeneration& generation, const policy::DivertedSources& diverted)
      : generation_(generation), diverted_(diverted) {}

  std::vector<EndpointState> endpoints(std::uint32_t upstream) const override;
  LimitState limit(std::uint32_t limit, const policy::RequestView& request, std::uint64_t route_id,
                   std::uint32_t cost) const override;
  std::optional<OwnBan> ban(const policy::IpAddress& client) const override;

 private:
  const PolicyGeneration& generation_;
  const policy::DivertedSources& diverted_;
};

}  // namespace sluice::gateway
