// Sets of rules, and their numbers: what the guard's tables point to.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// A bit per rule, twice: the rule's field matches, and the field of its exception matches.
struct RuleBits {
  using Words = std::array<std::uint64_t, SLUICE_GUARD_WORDS>;
  Words match{};
  Words except{};

  static void set(Words& words, std::size_t rule, bool on = true);
  bool operator==(const RuleBits&) const = default;
};

sluice_guard_class to_class(const RuleBits& bits);
bool has_exception(const GuardRule& rule);

// One of the two address fields of a match.
struct AddressField {
  std::vector<Prefix> GuardMatch::* prefixes;
  std::vector<PrefixSet> GuardMatch::* sets;
};
inline constexpr AddressField kFromField{&GuardMatch::from, &GuardMatch::from_sets};
inline constexpr AddressField kToField{&GuardMatch::to, &GuardMatch::to_sets};

inline bool has_field(const GuardMatch& match, const AddressField& field) {
  return !(match.*field.prefixes).empty() || !(match.*field.sets).empty();
}
inline bool has_field(const GuardMatch& match, std::vector<PortRange> GuardMatch::* field) {
  return !(match.*field).empty();
}

// What a packet gets that no element of the field matches: the rules that do not have the field.
template <typename Field>
RuleBits without_field(const std::vector<GuardRule>& rules, Field field) {
  RuleBits bits;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (!has_field(rules[i].match, field)) RuleBits::set(bits.match, i);
    if (has_exception(rules[i]) && !has_field(rules[i].except, field))
      RuleBits::set(bits.except, i);
  }
  return bits;
}

class GuardClasses {
 public:
  std::uint32_t id_of(const RuleBits& bits);  // the same for equal bits
  std::uint64_t live(std::uint32_t id) const { return list_[id].live; }
  std::size_t size() const { return list_.size(); }
  const std::vector<sluice_guard_class>& list() const { return list_; }

 private:
  struct Hash {
    std::size_t operator()(const RuleBits& bits) const;
  };
  std::vector<sluice_guard_class> list_;
  std::unordered_map<RuleBits, std::uint32_t, Hash> ids_;
};

}  // namespace sluice::kernel
