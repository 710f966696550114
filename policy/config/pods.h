// The typed form of `pods`: workloads of this node by what they are labelled with.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice::policy {

using PodLabel = std::pair<std::string, std::string>;

// Never meant where no namespace is named: what a node lives by runs there.
inline constexpr const char* kSystemNamespace = "kube-system";

// Those that have all of the labels: a pod that has not asked for it is never meant.
struct PodSelector {
  std::string name_space;        // "": any but kSystemNamespace
  std::vector<PodLabel> labels;  // sorted; at least one

  std::string text() const;  // "pods:ai/app=agent", "pods:*/app=agent": as a set is called
  bool operator==(const PodSelector&) const = default;
};

}  // namespace sluice::policy
