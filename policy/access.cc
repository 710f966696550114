#include "policy/access.h"

#include <algorithm>

namespace sluice::policy {

void PrefixIndex::add(const Prefix& prefix, std::uint32_t entry) {
  const bool v4 = prefix.is_v4();
  auto at = std::ranges::find_if(lengths_, [&](const Length& length) {
    return length.v4 == v4 && length.length == prefix.length;
  });
  if (at == lengths_.end()) at = lengths_.insert(at, Length{v4, prefix.length, {}});
  at->entries.push_back({prefix.address, entry});
}

void PrefixIndex::finish() {
  std::ranges::sort(lengths_, std::greater{}, &Length::length);
  for (Length& length : lengths_)
    std::ranges::stable_sort(length.entries, {}, &Entry::address);
}

std::optional<std::uint32_t> PrefixIndex::find(const IpAddress& address) const noexcept {
  const bool v4 = address.is_v4();
  for (const Length& length : lengths_) {
    if (length.v4 != v4) continue;
    const IpAddress masked = address.masked(length.length);
    const auto at = std::ranges::lower_bound(length.entries, masked, {}, &Entry::address);
    if (at != length.entries.end() && at->address == masked) return at->entry;
  }
  return std::nullopt;
}

AccessList::AccessList(const std::vector<AccessSource>& sources) {
  for (std::uint32_t i = 0; i < sources.size(); ++i) {
    if (sources[i].cidr) prefixes_.add(*sources[i].cidr, i);
    if (sources[i].set) sets_.push_back({sources[i].set->members, i});
  }
  prefixes_.finish();
}

std::optional<std::uint32_t> AccessList::find(const RequestView& request) const noexcept {
  if (const auto found = prefixes_.find(request.client)) return found;
  const auto set = std::ranges::find_if(
      sets_, [&](const Set& one) { return one.members->contains(request.client); });
  if (set == sets_.end()) return std::nullopt;
  return set->entry;
}

Access::Access(const AccessRules& rules)
    : rules_(rules.empty() ? nullptr : &rules), allow_(rules.allow), deny_(rules.deny) {}

AccessVerdict Access::check(const RequestView& request) const noexcept {
  if (rules_ == nullptr) return {};
  if (const auto denied = deny_.find(request)) return {false, &rules_->deny[*denied]};
  if (rules_->allow.empty()) return {};
  const auto allowed = allow_.find(request);
  if (!allowed) return {false, nullptr};
  return {true, &rules_->allow[*allowed]};
}

std::string to_string(const AccessSource& source) {
  if (source.set) return "set `" + source.set->name + "`";
  return source.cidr ? source.cidr->to_string() : "nobody";
}

}  // namespace sluice::policy
