// Whose an address is, among the pods that a policy names: what was counted for one pod is not for
// the next one that gets its address. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "policy/address.h"
#include "policy/config/pods.h"
#include "policy/pods.h"

namespace sluice::policy {

// Immutable, safe to share.
class PodOwners {
 public:
  // Of `pods`, those that one of `selectors` selects.
  PodOwners(std::span<const Pod> pods, std::span<const PodSelector> selectors);

  // A number for the pod, the same in every process: by namespace, name and uid. 0: it is none's.
  std::uint64_t of(const IpAddress& address) const noexcept;
  std::uint64_t digest() const noexcept { return digest_; }

 private:
  std::vector<std::pair<IpAddress, std::uint64_t>> owners_;  // sorted
  std::uint64_t digest_ = 0;
};

}  // namespace sluice::policy
