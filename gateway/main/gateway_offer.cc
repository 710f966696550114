#include "gateway/main/gateway_offer.h"

#include <utility>

#include "gateway/main/kernel_plan.h"

namespace sluice::control {

GatewayOffer make_offer(const kernel::Keeper& keeper, const CompiledPolicy& policy,
                        std::uint64_t generation, std::uint32_t workers,
                        gateway::tls::MaterialPtr material) {
  GatewayOffer out{.hello = {.workers = workers, .own_mark = own_mark(policy.config())},
                   .generation = generation,
                   .files = policy.files,
                   .entries = {},
                   .descriptors = {},
                   .material = std::move(material)};
  for (const auto& socket : keeper.sockets()) {
    out.entries.push_back({.listener = policy.config().listeners.at(socket.listener).name,
                           .way = socket.way,
                           .worker = socket.worker});
    out.descriptors.push_back(socket.fd);
  }
  return out;
}

}  // namespace sluice::control
