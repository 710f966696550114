// From a policy's upstreams to clusters; what did not change is kept.
#pragma once

#include <compare>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gateway/tls/contexts.h"
#include "gateway/upstream/cluster.h"
#include "gateway/upstream/endpoint_order.h"
#include "policy/config.h"

namespace sluice::gateway {

// One address that a name of the policy stands for.
struct ResolvedEndpoint {
  policy::SocketAddress address;
  std::uint32_t weight = 1;    // beside the others of the same name
  std::uint32_t priority = 0;  // the same
  std::string server_name = {};  // what TLS asks for; "": the address
  auto operator<=>(const ResolvedEndpoint&) const = default;
};

struct Resolution {
  std::vector<ResolvedEndpoint> endpoints;
  bool known = false;  // DNS has answered, if only to say that there is nothing
};

class ClusterRegistry {
 public:
  using Resolve = std::function<Resolution(const policy::Upstream&, const policy::Endpoint&)>;

  // Asked for each endpoint that is a name. Control thread.
  void set_resolver(Resolve resolve) { resolve_ = std::move(resolve); }

  // The clusters of a policy. An upstream that means the same as before (its place in the file
  // aside) and consists of the same endpoints keeps its Cluster object; a changed one keeps its
  // counters and each endpoint whose address is still there, with its health, ejection and pools.
  // Becomes current() at once; the same object as before when nothing changed. Control thread.
  std::shared_ptr<const ClusterSet> apply(const std::vector<policy::Upstream>& upstreams,
                                          const tls::Contexts* tls = nullptr);

  // What an operator says of endpoints: kept by their names ("10.0.0.1:80") as long as the policy
  // has the upstream, though endpoints come and go with DNS; in force with the next apply(). The
  // error says which upstream or endpoint is not there, and which are. Control thread.
  std::expected<void, std::string> order(const EndpointOrder& order);

  // Of the last apply(); empty before. Any thread: for metrics and status, by iteration. What a
  // policy no longer names is not in it, so its series end.
  std::shared_ptr<const ClusterSet> current() const;

 private:
  using Known = std::map<policy::SocketAddress, std::shared_ptr<Endpoint>>;

  struct Wanted {
    ClusterEndpoints endpoints;
    bool moved = false;  // weights or priorities have changed, which Maglev's tables hold
  };
  Wanted wanted(const policy::Upstream& config, const Cluster* before,
                const std::shared_ptr<ClusterState>& state) const;
  std::shared_ptr<Endpoint> endpoint_of(const policy::Upstream& config,
                                        const ResolvedEndpoint& wanted, const Known* before,
                                        const std::shared_ptr<ClusterState>& state,
                                        bool& moved) const;
  struct Standing {
    bool drained = false;
    std::optional<std::uint32_t> weight = std::nullopt;  // none: the policy's
  };
  Standing standing(const std::string& upstream, const std::string& endpoint) const;
  void forget_orders(const std::vector<policy::Upstream>& upstreams);

  Resolve resolve_;
  std::map<std::pair<std::string, std::string>, Standing> orders_;  // by upstream and endpoint
  mutable std::mutex mutex_;  // guards the pointer only
  std::shared_ptr<const ClusterSet> current_ =
      std::make_shared<ClusterSet>(std::vector<std::shared_ptr<const Cluster>>{});
};

}  // namespace sluice::gateway
