#include "gateway/upstream/kept_answers.h"

#include <set>
#include <utility>

#include "gateway/log.h"

namespace sluice::gateway {

KeptAnswers::Name KeptAnswers::name_of(const policy::Upstream& upstream,
                                       const policy::Endpoint& endpoint) {
  return {upstream.name, endpoint.text() + " " + std::to_string(static_cast<int>(endpoint.family))};
}

void KeptAnswers::take_over(std::vector<policy::CarriedName> names) {
  for (policy::CarriedName& name : names) {
    Kept& kept = kept_[{std::move(name.upstream), std::move(name.endpoint)}];
    kept.carried = true;
    for (policy::CarriedAddress& one : name.addresses) {
      kept.endpoints.push_back({.address = one.address,
                                .weight = one.weight,
                                .priority = one.priority,
                                .server_name = std::move(one.server_name)});
    }
  }
}

std::vector<policy::CarriedName> KeptAnswers::names() const {
  std::vector<policy::CarriedName> out;
  for (const auto& [name, kept] : kept_) {
    policy::CarriedName& carried =
        out.emplace_back(policy::CarriedName{name.first, name.second, {}});
    for (const ResolvedEndpoint& one : kept.endpoints)
      carried.addresses.push_back({one.address, one.weight, one.priority, one.server_name});
  }
  return out;
}

Resolution KeptAnswers::resolve(const policy::Upstream& upstream, const policy::Endpoint& endpoint,
                                Resolution found) {
  const Name name = name_of(upstream, endpoint);
  if (found.known) {
    if (found.endpoints.empty()) {
      kept_.erase(name);
    } else {
      kept_[name] = {.endpoints = found.endpoints, .carried = false, .told = false};
    }
    return found;
  }
  const auto kept = kept_.find(name);
  if (kept == kept_.end()) return found;
  // Who has answered here before keeps its own last answer, unless it is asked anew: by a reload.
  if (!kept->second.carried && !found.endpoints.empty()) return found;
  if (!std::exchange(kept->second.told, true))
    log_info("upstream", "endpoints are those that were known before, until the name is resolved",
             {{"upstream", upstream.name}, {"endpoint", endpoint.text()}});
  return {.endpoints = kept->second.endpoints, .known = false};
}

void KeptAnswers::follow(const std::vector<policy::Upstream>& upstreams) {
  std::set<Name> wanted;
  for (const policy::Upstream& upstream : upstreams) {
    for (const policy::Endpoint& endpoint : upstream.endpoints)
      if (endpoint.is_name()) wanted.insert(name_of(upstream, endpoint));
  }
  std::erase_if(kept_, [&](const auto& entry) { return !wanted.contains(entry.first); });
}

}  // namespace sluice::gateway
