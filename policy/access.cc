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

ProofMatcher::ProofMatcher(const AccessSource& source, std::uint32_t entry) : entry_(entry) {
  if (source.claim) {
    claim_ = *source.claim;
    if (claim_.kind != ClaimMatch::Kind::regex) return;
    if (auto compiled = Regex::compile(claim_.value)) regex_ = std::move(*compiled);
    return;
  }
  std::string_view name = source.identity;
  any_before_ = name.starts_with('*');
  if (any_before_) name.remove_prefix(1);
  any_behind_ = name.ends_with('*');
  if (any_behind_) name.remove_suffix(1);
  identity_ = name;
}

bool ProofMatcher::matches_name(std::string_view name) const noexcept {
  if (any_before_ && any_behind_) return name.find(identity_) != std::string_view::npos;
  if (any_before_) return name.ends_with(identity_);
  return any_behind_ ? name.starts_with(identity_) : name == identity_;
}

bool ProofMatcher::matches_claim(const AttributeSource& caller) const noexcept {
  if (claim_.kind == ClaimMatch::Kind::has) return caller.has(claim_.name, claim_.value);
  const auto value = caller.attribute(claim_.name);
  if (!value) return false;
  switch (claim_.kind) {
    case ClaimMatch::Kind::exact:
      return *value == claim_.value;
    case ClaimMatch::Kind::regex:
      return regex_ && regex_->matches(*value);
    case ClaimMatch::Kind::present:
    case ClaimMatch::Kind::has:
      break;
  }
  return true;
}

bool ProofMatcher::matches(const RequestView& request) const noexcept {
  if (!claim_.name.empty()) {
    return request.attributes != nullptr && matches_claim(*request.attributes);
  }
  return request.identity != nullptr &&
         std::ranges::any_of(request.identity->certificate_names,
                             [this](std::string_view name) { return matches_name(name); });
}

AccessList::AccessList(const std::vector<AccessSource>& sources) {
  for (std::uint32_t i = 0; i < sources.size(); ++i) {
    if (sources[i].cidr) prefixes_.add(*sources[i].cidr, i);
    if (sources[i].set) sets_.push_back({sources[i].set->members, i});
    if (sources[i].claim || !sources[i].identity.empty()) proofs_.emplace_back(sources[i], i);
  }
  prefixes_.finish();
}

std::optional<std::uint32_t> AccessList::find(const RequestView& request) const noexcept {
  if (const auto found = prefixes_.find(request.client)) return found;
  const auto set = std::ranges::find_if(
      sets_, [&](const Set& one) { return one.members->contains(request.client); });
  if (set != sets_.end()) return set->entry;
  const auto proof =
      std::ranges::find_if(proofs_, [&](const ProofMatcher& one) { return one.matches(request); });
  if (proof == proofs_.end()) return std::nullopt;
  return proof->entry();
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

namespace {

std::string to_string(const ClaimMatch& claim) {
  switch (claim.kind) {
    case ClaimMatch::Kind::exact:
      return "claim " + claim.name + " = " + claim.value;
    case ClaimMatch::Kind::has:
      return "claim " + claim.name + " has " + claim.value;
    case ClaimMatch::Kind::regex:
      return "claim " + claim.name + " matches " + claim.value;
    case ClaimMatch::Kind::present:
      break;
  }
  return "claim " + claim.name;
}

}  // namespace

std::string to_string(const AccessSource& source) {
  if (source.claim) return to_string(*source.claim);
  if (!source.identity.empty()) return "identity " + source.identity;
  if (source.set) return "set `" + source.set->name + "`";
  return source.cidr ? source.cidr->to_string() : "nobody";
}

}  // namespace sluice::policy
