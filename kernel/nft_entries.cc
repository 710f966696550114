#include "kernel/nft_entries.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace sluice::kernel {
namespace {

constexpr PortRange kAllPorts{0, 65535};

std::vector<Prefix> of_version(const std::vector<Prefix>& prefixes, bool v4) {
  std::vector<Prefix> result;
  std::copy_if(prefixes.begin(), prefixes.end(), std::back_inserter(result),
               [&](const Prefix& prefix) { return prefix.v4 == v4; });
  return result;
}

}  // namespace

std::vector<EntryPart> whole_entries(const Plan& plan, WayIn way) {
  std::vector<EntryPart> parts;
  for (std::size_t entry = 0; entry < plan.intercepts.size(); entry++) {
    const Intercept& intercept = plan.intercepts[entry];
    if (intercept.way != way) continue;
    for (const bool v4 : {true, false}) {
      auto to = of_version(intercept.to, v4);
      if (!intercept.to.empty() && to.empty()) continue;
      parts.push_back({entry, v4, std::move(to), intercept.ports});
    }
  }
  return parts;
}

std::vector<EntryPart> by_specificity(const Plan& plan, WayIn way) {
  // Sorted by what the map's key says; of each key one part.
  std::map<std::tuple<int, int, std::size_t, bool>, EntryPart> parts;
  for (const EntryPart& whole : whole_entries(plan, way)) {
    const auto ports = whole.ports.empty() ? std::vector{kAllPorts} : whole.ports;
    for (const Prefix& prefix : whole.to) {
      for (const PortRange range : ports) {
        auto& part = parts[{-prefix.length, range.last - range.first, whole.entry, whole.v4}];
        part.entry = whole.entry;
        part.v4 = whole.v4;
        if (std::find(part.to.begin(), part.to.end(), prefix) == part.to.end())
          part.to.push_back(prefix);
        if (std::find(part.ports.begin(), part.ports.end(), range) == part.ports.end())
          part.ports.push_back(range);
      }
    }
  }
  std::vector<EntryPart> result;
  for (auto& [key, part] : parts)
    result.push_back(std::move(part));
  return result;
}

}  // namespace sluice::kernel
