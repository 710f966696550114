// Lends upstream streams, whatever protocol the upstream speaks.
#pragma once

#include <expected>

#include "gateway/http/stream.h"
#include "gateway/upstream/cluster.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http {

// One per worker; its thread only.
class UpstreamStreams {
 public:
  explicit UpstreamStreams(Worker& worker) : worker_(worker) {}

  // A stream to the attempt's endpoint. If it is not connected() yet, `events` hears of it; they
  // must outlive the stream. `fresh`: not on a connection that was used before. `upgrade`: the
  // request asks for another protocol, which a connection of its own carries, or HTTP/2 by RFC 8441.
  std::expected<UpstreamStreamPtr, ConnectFailure> open(const Attempt& attempt,
                                                        const policy::IpAddress& client, bool fresh,
                                                        bool upgrade, UpstreamEvents& events);

 private:
  Worker& worker_;
};

}  // namespace sluice::gateway::http
