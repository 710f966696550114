// The gateway's state as JSON, for `sluice status`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/object.hpp>

#include "gateway/gateway.h"
#include "gateway/redis/limit_leases.h"
#include "gateway/upstream/cluster.h"
#include "policy/bans_diverted.h"
#include "policy/snapshot.h"

namespace sluice::gateway {

struct StatusInput {
  std::shared_ptr<const policy::Snapshot> snapshot;  // null before the first policy
  std::shared_ptr<const ClusterSet> clusters;
  std::vector<std::pair<std::string, WayIn>> serving;  // listener and way, once for each worker
  std::vector<std::uint32_t> worker_connections;
  std::function<std::uint32_t(const std::string&)> connections_of;  // by listener
  std::vector<policy::DivertedSource> diverted;
  std::optional<LimitLeases::Server> redis;
  std::optional<boost::json::object> language_models;  // ai::Registry::status()
  std::string access_log_problem;                           // AccessLog::problem()
  std::uint64_t now_ns = 0;  // on the scale of DivertedSource::until_ns
  bool draining = false;
};

// {"draining":…,"listeners":[{name,protocol,ways,connections,max_connections,address?}],
//  "upstreams":[{name,active_requests,connections,endpoints:[{address,healthy,ejected,drained,
//  active_requests,connections,requests,weight}]}],"workers":[{index,connections}],
//  "diverted":[{source,seconds_left,reason}],"redis"?:[{host,address?,connected}],
//  "language_models"?:{…},"warnings"?:[text]}
std::string status_json_of(const StatusInput& input);

}  // namespace sluice::gateway
