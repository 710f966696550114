#include "gateway/http2/upstream_pool.h"

#include <algorithm>

#include "gateway/worker.h"

namespace sluice::gateway::http2 {

std::expected<http::UpstreamStreamPtr, ConnectFailure> UpstreamPool::open(
    const Attempt& attempt, const policy::IpAddress& client, bool upgrade,
    http::UpstreamEvents& events) {
  auto found = session(attempt, client);
  if (!found) return std::unexpected(found.error());
  UpstreamSession& session = **found;
  auto stream = worker_.http2_upstreams().take(worker_);
  stream->open(std::move(*found), session.used(), upgrade, events);
  if (upgrade) session.settle_within(attempt.cluster().config().timeouts.connect);
  session.add(*stream);
  return http::UpstreamStreamPtr(stream.release());
}

std::expected<RefPtr<UpstreamSession>, ConnectFailure> UpstreamPool::session(
    const Attempt& attempt, const policy::IpAddress& client) {
  const PoolKey key{
      .endpoint = &attempt.endpoint(),
      .client = attempt.cluster().uses_client_address() ? client : policy::IpAddress{},
      .express = attempt.express()};
  if (sessions_.size() >= looked_at_) forget_ended();
  Sessions& sessions = sessions_[key];
  std::erase_if(sessions, [](const auto& session) { return !session->usable(); });
  const auto free = std::ranges::find_if(sessions, [&](const auto& session) {
    return session->has_room() && session->suits(attempt.cluster());
  });
  if (free != sessions.end()) return *free;
  auto made = make_ref<UpstreamSession>(worker_, attempt.cluster().config().timeouts.idle);
  if (auto connecting = made->connect(attempt, client); !connecting) {
    return std::unexpected(connecting.error());
  }
  sessions.push_back(made);
  return made;
}

void UpstreamPool::forget_ended() {
  boost::unordered::erase_if(sessions_, [](auto& entry) {
    std::erase_if(entry.second, [](const auto& session) { return !session->usable(); });
    return entry.second.empty();
  });
  looked_at_ = std::max<std::size_t>(64, sessions_.size() * 2);
}

void UpstreamPool::close() {
  auto sessions = std::move(sessions_);
  sessions_.clear();
  for (auto& [key, list] : sessions) {
    for (const auto& session : list)
      session->close();
  }
}

}  // namespace sluice::gateway::http2
