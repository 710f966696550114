// What a policy is to the workers: the snapshot and all that was made from it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/auth/auth_set.h"
#include "gateway/metrics.h"
#include "gateway/refcounted.h"
#include "gateway/tls/contexts.h"
#include "gateway/upstream/cluster.h"
#include "policy/limits.h"
#include "policy/snapshot.h"

namespace sluice::gateway::ai {
class Catalog;
}

namespace sluice::gateway {

// Of one policy, for all workers. Immutable.
struct PolicyGeneration {
  std::shared_ptr<const policy::Snapshot> snapshot;
  std::shared_ptr<const ClusterSet> clusters;
  std::shared_ptr<const auth::AuthSet> auth;
  std::shared_ptr<const MetricSlots> slots;
  tls::ContextsPtr tls;
  std::shared_ptr<const ai::Catalog> ai;  // null: the policy has no `ai`
  std::vector<policy::LimitHandle> limits;  // as Config::limits
};

// A worker's reference to a generation. Requests hold this one, so that no count is shared between
// workers while they run.
class WorkerConfig : public RefCounted<WorkerConfig> {
 public:
  explicit WorkerConfig(std::shared_ptr<const PolicyGeneration> generation)
      : generation_(std::move(generation)) {}

  const policy::Snapshot& snapshot() const { return *generation_->snapshot; }
  const policy::Config& policy() const { return generation_->snapshot->config(); }
  const ClusterSet& clusters() const { return *generation_->clusters; }
  const std::shared_ptr<const ClusterSet>& shared_clusters() const { return generation_->clusters; }
  const auth::AuthSet& auth() const { return *generation_->auth; }
  const tls::Contexts& tls() const { return *generation_->tls; }
  const ai::Catalog* ai() const { return generation_->ai.get(); }
  const MetricSlots& slots() const { return *generation_->slots; }
  const policy::LimitHandle& limit(std::uint32_t index) const { return generation_->limits[index]; }

 private:
  std::shared_ptr<const PolicyGeneration> generation_;
};

}  // namespace sluice::gateway
