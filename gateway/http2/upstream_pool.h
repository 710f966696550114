// One worker's HTTP/2 connections to upstreams, by endpoint (and client, where the source is the
// client).
#pragma once

#include <expected>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "gateway/http2/upstream_session.h"
#include "gateway/upstream/pool.h"

namespace sluice::gateway::http2 {

class UpstreamPool {
 public:
  explicit UpstreamPool(Worker& worker) : worker_(worker) {}

  // On a connection that has room, else on a new one. As http::UpstreamStreams::open.
  std::expected<http::UpstreamStreamPtr, ConnectFailure> open(const Attempt& attempt,
                                                              const policy::IpAddress& client,
                                                              bool upgrade,
                                                              http::UpstreamEvents& events);
  void close();

 private:
  using Sessions = std::vector<RefPtr<UpstreamSession>>;

  std::expected<RefPtr<UpstreamSession>, ConnectFailure> session(const Attempt& attempt,
                                                                 const policy::IpAddress& client);
  void forget_ended();

  Worker& worker_;
  boost::unordered_flat_map<PoolKey, Sessions> sessions_;
  std::size_t looked_at_ = 64;  // keys at which ended sessions are swept out
};

}  // namespace sluice::gateway::http2
