// Prefixes of all rules compiled into the two structures of abi_guard.h: pure, no system call.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/guard_classes.h"
#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

struct PrefixTables {
  sluice_guard_prefixes config{};
  // IPv4; `top` empty: no prefix longer than /16
  std::vector<std::uint64_t> top;  // SLUICE_GUARD_TOP_WORDS of them
  std::vector<std::uint64_t> leaves;
  std::vector<std::uint64_t> runs;
  std::vector<std::uint32_t> coarse;  // empty, or 65,536
  std::vector<sluice_guard_line> starts;
  // IPv6; `bits` empty: no prefix; `gate` empty: none of at least /32. As much of each as is used.
  std::vector<std::uint64_t> gate;
  std::vector<std::uint64_t> bits;
  std::vector<sluice_guard_line> buckets;
  std::size_t prefixes4 = 0;  // different ones
  std::size_t prefixes6 = 0;
  std::size_t left_behind6 = 0;  // prefixes whose bits are still set
};

// Which rule's field, or its exception's, a prefix belongs to.
using PrefixTag = std::uint16_t;
constexpr PrefixTag prefix_tag(std::size_t rule, bool except) {
  return static_cast<PrefixTag>(rule << 1 | (except ? 1U : 0U));
}

// The sets of rules that nested prefixes add up to; each is made once. Only sets that emit() names
// become classes.
class CoveringSets {
 public:
  CoveringSets(GuardClasses& classes, const RuleBits& base) : classes_(classes) {
    sets_.push_back({base, kNoClass});
  }
  static constexpr std::uint32_t kBase = 0;
  std::uint32_t with(std::uint32_t set, PrefixTag tag);
  std::uint32_t class_of(std::uint32_t set);

 private:
  static constexpr std::uint32_t kNoClass = 0xffffffff;
  struct Set {
    RuleBits bits;
    std::uint32_t klass;
  };
  GuardClasses& classes_;
  std::vector<Set> sets_;
  std::unordered_map<std::uint64_t, std::uint32_t> made_;
  std::uint64_t last_key_ = ~0ULL;
  std::uint32_t last_set_ = 0;
};

// `field` of all rules. Errors: more IPv6 prefixes than a table takes.
Result<PrefixTables> compile_prefixes(const std::vector<GuardRule>& rules,
                                      const AddressField& field,
                                      GuardClasses& classes);

// The halves of it. A key is address << 32 | length << 16 | tag.
void compile_prefixes4(std::vector<std::uint64_t> keys, CoveringSets& sets, PrefixTables& out);

// What the tables say of one /24.
struct Block4 {
  bool leaf = false;        // else: `klass`, by prefixes up to /16 alone
  std::uint32_t klass = 0;
  std::uint64_t word = 0;   // of kind SLUICE_GUARD_LEAF_RUNS: without its index
  bool by_runs = false;
  sluice_guard_line line{};  // likewise: without its base
  std::vector<std::uint64_t> runs;
};
// `keys`: all that cover addresses of the block, and perhaps others.
Block4 compile_block4(std::vector<std::uint64_t> keys, CoveringSets& sets, std::uint64_t block);

struct TaggedPrefix6 {
  std::uint64_t high;
  std::uint64_t low;
  std::uint32_t order;  // length << 16 | tag
  auto operator<=>(const TaggedPrefix6&) const = default;
};
Result<void> compile_prefixes6(std::vector<TaggedPrefix6> keys, CoveringSets& sets,
                               PrefixTables& out);

// One entry of compiled tables, not ::/0. False: there is no room.
bool put_prefix6(const Prefix& prefix, std::uint32_t klass, PrefixTables& tables);
void remove_prefix6(const Prefix& prefix, PrefixTables& tables);

// The eight bytes as a number.
std::uint64_t big_endian(const std::uint8_t* bytes);

}  // namespace sluice::kernel
