// From a policy's upstreams to clusters; what did not change is kept.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "gateway/upstream/cluster.h"
#include "policy/config.h"

namespace sluice::gateway {

class ClusterRegistry {
 public:
  // The clusters of a policy. An upstream that means the same as before (its place in the file
  // aside) keeps its Cluster object; a changed one keeps its counters and each endpoint whose
  // address is still there, with its health, ejection and pools. Becomes current() at once. Control
  // thread.
  std::shared_ptr<const ClusterSet> apply(const std::vector<policy::Upstream>& upstreams);

  // Of the last apply(); empty before. Any thread: for metrics and status, by iteration. What a
  // policy no longer names is not in it, so its series end.
  std::shared_ptr<const ClusterSet> current() const;

 private:
  mutable std::mutex mutex_;  // guards the pointer only
  std::shared_ptr<const ClusterSet> current_ =
      std::make_shared<ClusterSet>(std::vector<std::shared_ptr<const Cluster>>{});
};

}  // namespace sluice::gateway
