#include "kernel/guard_patch6.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr std::size_t kMostTouched = 65536;
constexpr std::size_t kMostInline = 4096;  // prefixes that rules name themselves
constexpr std::size_t kMostLeftBehind = 4096;

using Members = std::vector<Prefix>;

// In order, IPv4 first; without overlap.
Members::const_iterator first_from(const Members& set, const Prefix& prefix) {
  return std::partition_point(set.begin(), set.end(), [&](const Prefix& one) {
    return one.v4 || one.address < prefix.address;
  });
}

class Named {
 public:
  Named(const std::vector<GuardRule>& rules, const AddressField& field) {
    for (std::size_t i = 0; i < rules.size(); ++i) {
      add(rules[i].match, field, prefix_tag(i, false));
      add(rules[i].except, field, prefix_tag(i, true));
    }
  }
  bool few() const { return inline_.size() <= kMostInline; }

  // Those inside of `outer`, itself included. False: too many.
  bool inside(const Prefix& outer, std::set<Prefix>& out) const {
    for (const auto& [prefix, tag] : inline_) {
      if (covers(outer, prefix)) out.insert(prefix);
    }
    for (const auto& [set, tag] : sets_) {
      for (auto at = first_from(*set, outer); at != set->end() && out.size() <= kMostTouched;
           ++at) {
        if (covers(outer, *at)) {
          out.insert(*at);
        } else if (!covers(*at, outer)) {
          break;
        }
      }
    }
    return out.size() <= kMostTouched;
  }

  // What all that cover it say together; `named`: one of them is the prefix itself.
  std::uint32_t class_of(const Prefix& prefix, CoveringSets& sets, bool& named) const {
    std::vector<std::pair<std::uint8_t, PrefixTag>> covering;
    for (const auto& [one, tag] : inline_) {
      if (covers(one, prefix)) covering.emplace_back(one.length, tag);
    }
    for (const auto& [set, tag] : sets_) {
      auto at = first_from(*set, prefix);
      if (at == set->end() || !covers(*at, prefix)) {
        if (at == set->begin()) continue;
        --at;
      }
      if (covers(*at, prefix)) covering.emplace_back(at->length, tag);
    }
    std::ranges::sort(covering);
    std::uint32_t set = CoveringSets::kBase;
    for (const auto& [length, tag] : covering)
      set = sets.with(set, tag);
    named = !covering.empty() && covering.back().first == prefix.length;
    return sets.class_of(set);
  }

 private:
  void add(const GuardMatch& match, const AddressField& field, PrefixTag tag) {
    for (const Prefix& prefix : match.*field.prefixes) {
      if (!prefix.v4) inline_.emplace_back(prefix, tag);
    }
    for (const PrefixSet& set : match.*field.sets)
      sets_.emplace_back(set.get(), tag);
  }

  std::vector<std::pair<Prefix, PrefixTag>> inline_;
  std::vector<std::pair<const Members*, PrefixTag>> sets_;
};

}  // namespace

bool patch_prefixes6(const std::vector<GuardRule>& rules, const AddressField& field,
                     const std::vector<Prefix>& changed, CoveringSets& sets, PrefixTables& tables) {
  const Named names(rules, field);
  if (tables.buckets.empty() || !names.few()) return false;
  std::set<Prefix> touched(changed.begin(), changed.end());
  for (const Prefix& prefix : changed) {
    if (prefix.length == 0 || !names.inside(prefix, touched)) return false;
  }
  for (const Prefix& prefix : touched) {
    bool named = false;
    const std::uint32_t klass = names.class_of(prefix, sets, named);
    if (!named) {
      remove_prefix6(prefix, tables);
    } else if (klass > SLUICE_GUARD_MAX_CLASSES || !put_prefix6(prefix, klass, tables)) {
      return false;
    }
  }
  return tables.left_behind6 <= kMostLeftBehind;
}

}  // namespace sluice::kernel
