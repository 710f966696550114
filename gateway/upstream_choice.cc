#include "gateway/upstream_choice.h"

#include "gateway/original_destination.h"
#include "gateway/worker.h"
#include "policy/balancing.h"

namespace sluice::gateway {

std::uint32_t choose_upstream(const policy::CompiledRoute& route, Worker& worker) {
  if (route.targets.size() == 1) return route.targets.front().upstream;
  const auto target = policy::pick_weighted(route.weights, worker.random()).value_or(0);
  return route.targets[target].upstream;
}

EndpointSlot endpoint_slot(const WorkerConfig& config, std::uint32_t upstream,
                           const Attempt& attempt) {
  return config.slots().endpoints[upstream][attempt.index()];
}

void follow_attempt(Worker& worker, const WorkerConfig& config, std::uint32_t upstream,
                    const Attempt& attempt, EndpointSlot& slot) {
  const EndpointSlot now = endpoint_slot(config, upstream, attempt);
  worker.metrics().upstream_request_moved(slot, now);
  slot = now;
}

std::optional<policy::SocketAddress> reachable_destination(const Worker& worker, WayIn way,
                                                           int client_fd) {
  if (way != WayIn::forward && way != WayIn::output) return std::nullopt;
  auto destination = local_address(client_fd);
  if (destination && worker.is_own_address(*destination)) return std::nullopt;
  return destination;
}

}  // namespace sluice::gateway
