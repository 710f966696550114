#include "gateway/http/upstream_streams.h"

#include "gateway/http1/upstream_stream.h"
#include "gateway/http2/upstream_pool.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

std::expected<UpstreamStreamPtr, ConnectFailure> UpstreamStreams::open(
    const Attempt& attempt, const policy::IpAddress& client, bool fresh, bool upgrade,
    UpstreamEvents& events) {
  const Cluster& cluster = attempt.cluster();
  const bool alone = upgrade || cluster.config().send_proxy_protocol != policy::ProxyProtocol::none;
  const bool by_alpn = cluster.config().protocol == policy::UpstreamProtocol::automatic &&
                       cluster.tls() && !alone && !attempt.endpoint().speaks_http1_only();
  if (cluster.config().protocol == policy::UpstreamProtocol::http2 || by_alpn) {
    return worker_.http2_pool().open(attempt, client, upgrade, events);
  }
  return http1::UpstreamStream::open(worker_, attempt, client, fresh, alone, events);
}

}  // namespace sluice::gateway::http
