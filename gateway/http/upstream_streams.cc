#include "gateway/http/upstream_streams.h"

#include "gateway/http1/upstream_stream.h"
#include "gateway/http2/upstream_pool.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

std::expected<UpstreamStreamPtr, ConnectFailure> UpstreamStreams::open(
    const Attempt& attempt, const policy::IpAddress& client, bool fresh, UpstreamEvents& events) {
  if (attempt.cluster().config().protocol == policy::UpstreamProtocol::http2) {
    return worker_.http2_pool().open(attempt, client, events);
  }
  return http1::UpstreamStream::open(worker_, attempt, client, fresh, events);
}

}  // namespace sluice::gateway::http
