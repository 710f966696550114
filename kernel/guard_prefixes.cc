#include "kernel/guard_prefixes.h"

#include <bit>
#include <cstring>

namespace sluice::kernel {
namespace {

struct Keys {
  std::vector<std::uint64_t> v4;
  std::vector<TaggedPrefix6> v6;

  void add(const GuardMatch& match, const AddressField& field, PrefixTag tag) {
    add(match.*field.prefixes, tag);
    for (const PrefixSet& set : match.*field.sets)
      add(*set, tag);
  }

  void add(const std::vector<Prefix>& prefixes, PrefixTag tag) {
    for (const Prefix& prefix : prefixes) {
      const std::uint64_t low = big_endian(prefix.address.data() + 8);
      if (prefix.v4) {
        v4.push_back(low << 32 | static_cast<std::uint64_t>(prefix.length - 96) << 16 | tag);
      } else {
        v6.push_back({big_endian(prefix.address.data()), low,
                      static_cast<std::uint32_t>(prefix.length) << 16 | tag});
      }
    }
  }
};

}  // namespace

std::uint64_t big_endian(const std::uint8_t* bytes) {
  std::uint64_t out = 0;
  std::memcpy(&out, bytes, sizeof(out));
  return std::endian::native == std::endian::little ? __builtin_bswap64(out) : out;
}

std::uint32_t CoveringSets::with(std::uint32_t set, PrefixTag tag) {
  const std::uint64_t key = static_cast<std::uint64_t>(set) << 16 | tag;
  if (key == last_key_) return last_set_;
  const auto [at, added] = made_.try_emplace(key, static_cast<std::uint32_t>(sets_.size()));
  if (added) {
    Set made{sets_[set].bits, kNoClass};
    RuleBits::set((tag & 1) != 0 ? made.bits.except : made.bits.match, tag >> 1);
    sets_.push_back(made);
  }
  last_key_ = key;
  return last_set_ = at->second;
}

std::uint32_t CoveringSets::class_of(std::uint32_t set) {
  std::uint32_t& klass = sets_[set].klass;
  if (klass == kNoClass) klass = classes_.id_of(sets_[set].bits);
  return klass;
}

Result<PrefixTables> compile_prefixes(const std::vector<GuardRule>& rules,
                                      const AddressField& field,
                                      GuardClasses& classes) {
  Keys keys;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    keys.add(rules[i].match, field, prefix_tag(i, false));
    keys.add(rules[i].except, field, prefix_tag(i, true));
  }
  PrefixTables out;
  CoveringSets sets(classes, without_field(rules, field));
  compile_prefixes4(std::move(keys.v4), sets, out);
  if (auto ok = compile_prefixes6(std::move(keys.v6), sets, out); !ok)
    return std::unexpected(ok.error());
  out.config.default_live4 = classes.live(out.config.default4);
  out.config.default_live6 = classes.live(out.config.default6);
  return out;
}

}  // namespace sluice::kernel
