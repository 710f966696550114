// What the names of endpoints stood for when DNS or the Kubernetes API answered last, for a gateway
// that begins while neither can be asked, and for a reload that changes whom to ask, and how.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gateway/upstream/registry.h"
#include "policy/carried_state.h"
#include "policy/config.h"

namespace sluice::gateway {

// Control thread only.
class KeptAnswers {
 public:
  // What the gateway before knew; before anything is resolved.
  void take_over(std::vector<policy::CarriedName> names);
  std::vector<policy::CarriedName> names() const;

  // `found`, which is kept when it is an answer; else what is kept.
  Resolution resolve(const policy::Upstream& upstream, const policy::Endpoint& endpoint,
                     Resolution found);
  // Names that no upstream has any longer are forgotten.
  void follow(const std::vector<policy::Upstream>& upstreams);

 private:
  using Name = std::pair<std::string, std::string>;  // upstream, endpoint
  struct Kept {
    std::vector<ResolvedEndpoint> endpoints;
    bool carried = false;  // nobody has answered here yet
    bool told = false;
  };
  static Name name_of(const policy::Upstream& upstream, const policy::Endpoint& endpoint);

  std::map<Name, Kept> kept_;
};

}  // namespace sluice::gateway
