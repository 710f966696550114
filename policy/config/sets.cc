#include "policy/config/sets.h"

#include <algorithm>

namespace sluice::policy {

bool AddressMatch::contains(const IpAddress& address) const noexcept {
  return std::ranges::any_of(
             prefixes, [&](const Prefix& prefix) { return prefix.contains(address); }) ||
         std::ranges::any_of(
             sets, [&](const SetReference& set) { return set.members->contains(address); });
}

const SetReference* AddressMatch::set_with(const IpAddress& address) const noexcept {
  const auto found = std::ranges::find_if(
      sets, [&](const SetReference& set) { return set.members->contains(address); });
  return found == sets.end() ? nullptr : &*found;
}

bool AddressMatch::overlaps(const Prefix& prefix) const {
  return std::ranges::any_of(prefixes,
                             [&](const Prefix& own) {
                               return own.contains(prefix) || prefix.contains(own);
                             }) ||
         std::ranges::any_of(
             sets, [&](const SetReference& set) { return set.members->overlaps(prefix); });
}

bool AddressMatch::may_name_v4() const {
  return !sets.empty() || std::ranges::any_of(prefixes, &Prefix::is_v4);
}

bool AddressMatch::may_name_v6() const {
  return !sets.empty() || !std::ranges::all_of(prefixes, &Prefix::is_v4);
}

}  // namespace sluice::policy
