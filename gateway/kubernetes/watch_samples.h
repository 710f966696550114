// The counts of a watch for the metrics page.
#pragma once

#include <string>
#include <vector>

#include "gateway/kubernetes/watch.h"
#include "gateway/metrics_samples.h"

namespace sluice::gateway::kubernetes {

// `resource`: "endpointslices"; `name`: whose, of the policy.
void add_watch_samples(const std::string& resource, const std::string& name,
                       const WatchCounts& counts, std::vector<MetricSample>& out);

}  // namespace sluice::gateway::kubernetes
