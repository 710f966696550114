#include "policy/pod_owners.h"

#include <algorithm>
#include <string>

#include "policy/siphash.h"

namespace sluice::policy {
namespace {

// No secret: what a pod is known by is the cluster's to give, not the client's.
constexpr HashKey kOwnerKey{0x736c756963652d70, 0x6f642d6f776e6572};

}  // namespace

PodOwners::PodOwners(std::span<const Pod> pods, std::span<const PodSelector> selectors) {
  for (const Pod& pod : pods) {
    const auto names = [&](const PodSelector& selector) { return selects(selector, pod); };
    if (std::ranges::none_of(selectors, names)) continue;
    const std::uint64_t owner = siphash(kOwnerKey, pod.name_space + "/" + pod.name + "/" + pod.uid);
    for (const IpAddress& address : pod.addresses)
      owners_.emplace_back(address, owner);
  }
  std::ranges::sort(owners_);
  for (const auto& [address, owner] : owners_)
    digest_ = siphash({kOwnerKey.k0 ^ digest_, kOwnerKey.k1 ^ owner}, address.bytes());
}

std::uint64_t PodOwners::of(const IpAddress& address) const noexcept {
  const auto found = std::ranges::lower_bound(
      owners_, address, {}, [](const auto& owner) -> const IpAddress& { return owner.first; });
  return found != owners_.end() && found->first == address ? found->second : 0;
}

}  // namespace sluice::policy
