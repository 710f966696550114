// What the page shows and no worker counts: the state of endpoints, the access log.
#pragma once

namespace sluice::gateway {

class AccessLog;
class ClusterSet;
class MetricsPage;

// Control thread.
void collect_clusters(const ClusterSet& clusters, MetricsPage& page);
void collect_access_log(const AccessLog& log, MetricsPage& page);

}  // namespace sluice::gateway
