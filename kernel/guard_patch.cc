#include "kernel/guard_patch.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "kernel/guard_patch6.h"

namespace sluice::kernel {
namespace {

constexpr unsigned kV4Bits = 96;
constexpr unsigned kCoarse = kV4Bits + 16;  // what is no longer belongs to no /24
constexpr std::size_t kMostChanges = 4096;
constexpr std::size_t kMostBlocks = 65536;
constexpr std::size_t kMostInline = 4096;  // prefixes that rules name themselves

std::uint64_t address4(const Prefix& prefix) {
  std::uint32_t out = 0;
  std::memcpy(&out, prefix.address.data() + 12, sizeof out);
  return std::endian::native == std::endian::little ? __builtin_bswap32(out) : out;
}
std::uint64_t first_block(const Prefix& prefix) {
  return address4(prefix) >> 8;
}
std::uint64_t end_block(const Prefix& prefix) {
  const unsigned length = prefix.length - kV4Bits;
  return length >= 24 ? first_block(prefix) + 1 : first_block(prefix) + (1ULL << (24 - length));
}
bool touches(const Prefix& prefix, std::uint64_t block) {
  return prefix.v4 && first_block(prefix) <= block && block < end_block(prefix);
}

bool same_shape(const GuardMatch& a, const GuardMatch& b) {
  return a.from == b.from && a.to == b.to && a.from_ports == b.from_ports &&
         a.to_ports == b.to_ports && a.from_sets.size() == b.from_sets.size() &&
         a.to_sets.size() == b.to_sets.size();
}

bool same_shape(const GuardRule& a, const GuardRule& b) {
  return a.name == b.name && same_shape(a.match, b.match) && same_shape(a.except, b.except) &&
         a.protocol == b.protocol && a.action == b.action && a.rate == b.rate &&
         a.direction == b.direction && a.interfaces == b.interfaces && a.audit == b.audit;
}

bool same_shape(const GuardPlan& a, const GuardPlan& b) {
  return std::ranges::equal(
             a.rules, b.rules,
             [](const GuardRule& x, const GuardRule& y) { return same_shape(x, y); }) &&
         a.source_syn == b.source_syn && a.service_syn == b.service_syn &&
         a.audit_syn == b.audit_syn && a.monitor_services == b.monitor_services &&
         a.monitor_sources == b.monitor_sources;
}

// The /24s, and the IPv6 prefixes, that sets of one field name otherwise than before.
class Changes {
 public:
  // False: too many, or of a kind that is not mended.
  bool add(const GuardMatch& before, const GuardMatch& after, const AddressField& field) {
    const auto& old_sets = before.*field.sets;
    const auto& new_sets = after.*field.sets;
    for (std::size_t i = 0; i < old_sets.size(); ++i) {
      if (old_sets[i] == new_sets[i] ||
          !compared_.insert({old_sets[i].get(), new_sets[i].get()}).second)
        continue;
      if (!add(*old_sets[i], *new_sets[i])) return false;
    }
    return true;
  }
  const std::set<std::uint64_t>& blocks() const { return blocks_; }
  const std::vector<Prefix>& prefixes6() const { return prefixes6_; }
  std::int64_t more4() const { return more4_; }

 private:
  // Both are in order: IPv4 first, by address.
  bool add(const std::vector<Prefix>& before, const std::vector<Prefix>& after) {
    const auto order = [](const Prefix& a, const Prefix& b) {
      return std::tuple(!a.v4, a.address, a.length) < std::tuple(!b.v4, b.address, b.length);
    };
    auto old_one = before.begin();
    auto new_one = after.begin();
    while (old_one != before.end() || new_one != after.end()) {
      if (old_one != before.end() && new_one != after.end() && *old_one == *new_one) {
        ++old_one, ++new_one;
      } else if (new_one == after.end() || (old_one != before.end() && order(*old_one, *new_one))) {
        more4_ -= old_one->v4 ? 1 : 0;
        if (!note(*old_one++)) return false;
      } else {
        more4_ += new_one->v4 ? 1 : 0;
        if (!note(*new_one++)) return false;
      }
    }
    return true;
  }

  bool note(const Prefix& changed) {
    if (++changes_ > kMostChanges) return false;
    if (!changed.v4) return prefixes6_.push_back(changed), true;
    if (changed.length <= kCoarse) return false;
    for (std::uint64_t block = first_block(changed); block < end_block(changed); ++block)
      blocks_.insert(block);
    return blocks_.size() <= kMostBlocks;
  }

  std::set<std::pair<const void*, const void*>> compared_;
  std::set<std::uint64_t> blocks_;
  std::vector<Prefix> prefixes6_;
  std::size_t changes_ = 0;
  std::int64_t more4_ = 0;
};

// All that rules say of one block, as compile_prefixes4() takes it.
class Keys {
 public:
  Keys(const std::vector<GuardRule>& rules, const AddressField& field) {
    for (std::size_t i = 0; i < rules.size(); ++i) {
      add(rules[i].match, field, prefix_tag(i, false));
      add(rules[i].except, field, prefix_tag(i, true));
    }
  }
  bool few() const { return inline_.size() <= kMostInline; }

  std::vector<std::uint64_t> of(std::uint64_t block) const {
    std::vector<std::uint64_t> out;
    for (const auto& [prefix, tag] : inline_) {
      if (touches(prefix, block)) out.push_back(key(prefix, tag));
    }
    for (const auto& [set, tag] : sets_) {
      // Without overlap: of those that begin before the block only the last can reach into it.
      auto at = std::partition_point(set->begin(), set->end(), [&](const Prefix& prefix) {
        return prefix.v4 && first_block(prefix) < block;
      });
      if (at != set->begin() && touches(*std::prev(at), block)) --at;
      for (; at != set->end() && touches(*at, block); ++at)
        out.push_back(key(*at, tag));
    }
    return out;
  }

 private:
  void add(const GuardMatch& match, const AddressField& field, PrefixTag tag) {
    for (const Prefix& prefix : match.*field.prefixes) {
      if (prefix.v4) inline_.emplace_back(prefix, tag);
    }
    for (const PrefixSet& set : match.*field.sets)
      sets_.emplace_back(set.get(), tag);
  }
  static std::uint64_t key(const Prefix& prefix, PrefixTag tag) {
    return address4(prefix) << 32 | static_cast<std::uint64_t>(prefix.length - kV4Bits) << 16 | tag;
  }

  std::vector<std::pair<Prefix, PrefixTag>> inline_;
  std::vector<std::pair<const std::vector<Prefix>*, PrefixTag>> sets_;
};

constexpr std::uint64_t kBits = 0xffffffff;

bool has_leaf(const PrefixTables& tables, std::uint64_t block) {
  return !tables.top.empty() && (tables.top[block >> 5] >> (block & 31) & 1) != 0;
}
std::size_t rank(const PrefixTables& tables, std::uint64_t block) {
  if (tables.top.empty()) return 0;
  const std::uint64_t word = tables.top[block >> 5];
  const std::uint64_t below = word & kBits & ((1ULL << (block & 31)) - 1);
  return static_cast<std::size_t>(word >> 32) + static_cast<std::size_t>(std::popcount(below));
}

void count_ranks(PrefixTables& tables) {
  std::uint64_t before = 0;
  for (std::uint64_t& word : tables.top) {
    const auto here = static_cast<unsigned>(std::popcount(word & kBits));
    word = before << 32 | (word & kBits);
    before += here;
  }
}

// False: a /24 without a leaf has another class than the tables can say.
bool put_blocks(const std::vector<std::pair<std::uint64_t, Block4>>& blocks, PrefixTables& tables) {
  std::vector<std::uint64_t> leaves;
  leaves.reserve(tables.leaves.size() + blocks.size());
  auto from = tables.leaves.begin();
  for (const auto& [block, content] : blocks) {
    const auto at = tables.leaves.begin() + static_cast<std::ptrdiff_t>(rank(tables, block));
    leaves.insert(leaves.end(), from, at);
    from = at + (has_leaf(tables, block) ? 1 : 0);
    if (!content.leaf) {
      if (tables.coarse.empty() && content.klass != tables.config.default4) return false;
      if (!tables.coarse.empty()) tables.coarse[block >> 8] = content.klass;
      continue;
    }
    std::uint64_t word = content.word;
    if (content.by_runs) {
      word += tables.starts.size();
      tables.starts.push_back(content.line);
      tables.starts.back().runs.base = tables.runs.size();
      tables.runs.insert(tables.runs.end(), content.runs.begin(), content.runs.end());
    }
    leaves.push_back(word);
  }
  leaves.insert(leaves.end(), from, tables.leaves.end());
  tables.leaves = std::move(leaves);
  if (tables.top.empty()) tables.top.resize(SLUICE_GUARD_TOP_WORDS);
  for (const auto& [block, content] : blocks) {
    const std::uint64_t bit = 1ULL << (block & 31);
    std::uint64_t& word = tables.top[block >> 5];
    word = content.leaf ? word | bit : word & ~bit;
  }
  count_ranks(tables);
  tables.config.flags |= SLUICE_GUARD_HAS_TOP4;
  return true;
}

bool patch_blocks(const std::vector<GuardRule>& rules, const AddressField& field,
                  const Changes& changes, GuardClasses& classes, CoveringSets& sets,
                  PrefixTables& prefixes) {
  // What mended blocks leave behind is cleared by a whole compilation now and then.
  if (prefixes.starts.size() > 1024 && prefixes.starts.size() > prefixes.leaves.size())
    return false;
  const Keys keys(rules, field);
  if (!keys.few()) return false;
  std::vector<std::pair<std::uint64_t, Block4>> blocks;
  blocks.reserve(changes.blocks().size());
  for (const std::uint64_t block : changes.blocks())
    blocks.emplace_back(block, compile_block4(keys.of(block), sets, block));
  if (classes.size() > SLUICE_GUARD_MAX_CLASSES || !put_blocks(blocks, prefixes)) return false;
  prefixes.prefixes4 = static_cast<std::size_t>(
      std::max<std::int64_t>(static_cast<std::int64_t>(prefixes.prefixes4) + changes.more4(), 0));
  return true;
}

bool patch_field(const GuardPlan& before, const GuardPlan& after, const AddressField& field,
                 GuardTables& tables, int which) {
  Changes changes;
  for (std::size_t i = 0; i < after.rules.size(); ++i) {
    if (!changes.add(before.rules[i].match, after.rules[i].match, field) ||
        !changes.add(before.rules[i].except, after.rules[i].except, field))
      return false;
  }
  PrefixTables& prefixes = tables.prefixes[static_cast<std::size_t>(which)];
  CoveringSets sets(tables.index, without_field(after.rules, field));
  if (!changes.blocks().empty() &&
      !patch_blocks(after.rules, field, changes, tables.index, sets, prefixes))
    return false;
  if (!changes.prefixes6().empty() &&
      !patch_prefixes6(after.rules, field, changes.prefixes6(), sets, prefixes))
    return false;
  tables.slot.prefixes[which] = prefixes.config;
  return true;
}

}  // namespace

bool patch_guard(const GuardPlan& before, const GuardPlan& after, GuardTables& tables) {
  if (!same_shape(before, after)) return false;
  if (!patch_field(before, after, kFromField, tables, SLUICE_GUARD_FROM) ||
      !patch_field(before, after, kToField, tables, SLUICE_GUARD_TO))
    return false;
  tables.classes = tables.index.list();
  return true;
}

}  // namespace sluice::kernel
