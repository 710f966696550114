// Tables that were mended say what tables that were compiled from every prefix say, for every
// address.
#include "kernel/guard_patch.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <gtest/gtest.h>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

// As guard_prefix.bpf.h looks it up.
std::uint32_t class_of(const PrefixTables& tables, std::uint32_t address) {
  const std::uint32_t block = address >> 8;
  const std::uint32_t host = address & 0xff;
  const std::uint64_t word = tables.top.empty() ? 0 : tables.top[block >> 5];
  if ((word >> (block & 31) & 1) == 0)
    return tables.coarse.empty() ? tables.config.default4
                                 : static_cast<std::uint32_t>(tables.coarse[address >> 16]);
  const std::uint64_t below = word & ((1ULL << (block & 31)) - 1);
  const std::uint64_t leaf =
      tables.leaves[(word >> 32) + static_cast<std::size_t>(std::popcount(below))];
  constexpr std::uint64_t kClass = (1ULL << SLUICE_GUARD_LEAF_CLASS_BITS) - 1;
  switch (leaf >> SLUICE_GUARD_LEAF_KIND) {
    case SLUICE_GUARD_LEAF_WHOLE:
      return static_cast<std::uint32_t>(leaf);
    case SLUICE_GUARD_LEAF_HOSTS: {
      const bool named =
          (leaf & 0xff) == host || (leaf >> 8 & 0xff) == host || (leaf >> 16 & 0xff) == host;
      return static_cast<std::uint32_t>(
          named ? leaf >> 24 & kClass : leaf >> (24 + SLUICE_GUARD_LEAF_CLASS_BITS) & kClass);
    }
    default: {
      const auto& line = tables.starts[leaf & 0xffffffff];
      std::size_t run = 0;
      for (std::uint32_t at = 0; at <= host; ++at)
        run += line.runs.starts[at >> 6] >> (at & 63) & 1;
      return static_cast<std::uint32_t>(tables.runs[line.runs.base + run - 1]);
    }
  }
}

using Ranges = std::set<std::pair<std::uint32_t, unsigned>>;  // address and length

bool overlaps(const Ranges& ranges, std::uint32_t address, unsigned length) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const auto& one) {
    const unsigned shift = 32 - std::min(one.second, length);
    return shift == 32 || one.first >> shift == address >> shift;
  });
}

PrefixSet set_of(const Ranges& ranges) {
  auto out = std::make_shared<std::vector<Prefix>>();
  for (const auto& [address, length] : ranges) {
    Prefix made = prefix("0.0.0.0");
    for (std::size_t i = 0; i < 4; ++i)
      made.address[12 + i] = static_cast<std::uint8_t>(address >> (24 - 8 * i));
    made.length = static_cast<std::uint8_t>(96 + length);
    out->push_back(made);
  }
  return out;
}

// Up to six members of three sets go or come.
template <typename Set, typename Below, typename Add>
void change_some(std::vector<Set>& sets, Below below, Add add) {
  for (int n = 1 + below(6); n > 0; --n) {
    Set& set = sets[static_cast<std::size_t>(below(3))];
    if (below(2) == 0 && !set.empty()) {
      set.erase(std::next(set.begin(), below(static_cast<int>(set.size()))));
    } else {
      add(set);
    }
  }
}

class Walk {
 public:
  explicit Walk(unsigned seed) : random_(seed), sets_(3) {
    for (auto& set : sets_) {
      for (int i = 0; i < 200; ++i)
        add(set);
    }
    before_ = plan();
    tables_ = compiled(before_);
  }

  void step(int at) {
    change_some(sets_, [this](int limit) { return below(limit); }, [this](auto& set) { add(set); });
    const GuardPlan after = plan();
    ASSERT_TRUE(patch_guard(before_, after, tables_)) << at;
    const GuardTables whole = compiled(after);
    for (int i = 0; i < 3000; ++i) {
      const std::uint32_t address = some_address();
      for (const auto which : {SLUICE_GUARD_FROM, SLUICE_GUARD_TO}) {
        const auto& mine = tables_.classes[class_of(tables_.prefixes[which], address)];
        const auto& theirs = whole.classes[class_of(whole.prefixes[which], address)];
        ASSERT_EQ(std::memcmp(&mine, &theirs, sizeof mine), 0)
            << "step " << at << ", address " << address << ", field " << which;
      }
    }
    before_ = after;
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
  // A few /24s, so that they meet.
  std::uint32_t some_address() {
    return 0x0a000000U | static_cast<std::uint32_t>(below(3)) << 16 |
           static_cast<std::uint32_t>(below(24)) << 8 | static_cast<std::uint32_t>(below(256));
  }
  void add(Ranges& set) {
    const unsigned length = below(3) == 0 ? static_cast<unsigned>(17 + below(8))
                                          : 32U - static_cast<unsigned>(below(6));
    const std::uint32_t address = some_address() >> (32 - length) << (32 - length);
    if (!overlaps(set, address, length)) set.insert({address, length});
  }
  GuardPlan plan() const {
    GuardMatch first;
    first.from_sets = {set_of(sets_[0])};
    first.from = prefixes({"10.0.0.0/9", "10.1.3.0/28"});
    GuardMatch second;
    second.from_sets = {set_of(sets_[0]), set_of(sets_[1])};
    second.to_sets = {set_of(sets_[2])};
    GuardMatch except;
    except.from_sets = {set_of(sets_[2])};
    return guard_plan({drop("first", first, except), count("second", second), drop("all")});
  }
  static GuardTables compiled(const GuardPlan& plan) {
    auto made = compile_guard(plan, std::vector<std::uint16_t>{0, 1, 2}, {}, {});
    EXPECT_TRUE(made.has_value());
    return made ? std::move(*made) : GuardTables{};
  }

  std::mt19937 random_;
  std::vector<Ranges> sets_;
  GuardPlan before_;
  GuardTables tables_;
};

TEST(GuardPatch, SaysWhatAWholeCompilationSays) {
  for (const unsigned seed : {1U, 2U, 3U}) {
    Walk walk(seed);
    for (int at = 0; at < 40 && !HasFailure(); ++at)
      walk.step(at);
  }
}

// As guard_prefix.bpf.h looks it up.
std::uint32_t class_of6(const PrefixTables& tables, const Prefix& host) {
  const auto& config = tables.config;
  const std::uint64_t high = big_endian(host.address.data());
  const std::uint64_t low = big_endian(host.address.data() + 8);
  if (config.lengths == 0) return config.default6;
  const auto has = [](const std::vector<std::uint64_t>& words, std::uint64_t bit) {
    return !words.empty() && (words[bit >> 6] >> (bit & 63) & 1) != 0;
  };
  const bool open = config.gated > 0 &&
                    has(tables.gate, sluice_guard_gate6_bit(config.seed, high) & config.gate_mask);
  for (std::uint32_t at = open ? 0 : config.gated; at < config.lengths; ++at) {
    const unsigned length = config.length[at];
    const std::uint64_t cut = ~(~0ULL >> (length & 63));
    const std::uint64_t h = length >= 64 ? high : high & cut;
    const std::uint64_t l = length >= 128 ? low : length > 64 ? low & cut : 0;
    const std::uint64_t hash = sluice_guard_hash6(config.seed, h, l, length);
    if (!has(tables.bits, hash & config.bits_mask)) continue;
    for (std::uint32_t probe = 0; probe < SLUICE_GUARD_MAX_PROBES; ++probe) {
      const auto& bucket = tables.buckets[((hash >> 32) + probe) & config.bucket_mask].bucket;
      for (std::size_t i = 0; i < 3; ++i) {
        if ((bucket.tag[i] & 0xff) == length && bucket.high[i] == h && bucket.low[i] == l)
          return bucket.tag[i] >> 8;
      }
      if (bucket.more == 0) break;
    }
  }
  return config.default6;
}

class Walk6 {
 public:
  explicit Walk6(unsigned seed) : random_(seed), sets_(3) {
    for (auto& set : sets_) {
      for (int i = 0; i < 300; ++i)
        add(set);
    }
    before_ = plan();
    tables_ = compiled(before_);
  }

  // Now and then there is no room, or too much is left behind: then it is compiled whole.
  void step(int at, int& mended) {
    change_some(sets_, [this](int limit) { return below(limit); }, [this](auto& set) { add(set); });
    const GuardPlan after = plan();
    const GuardTables whole = compiled(after);
    if (patch_guard(before_, after, tables_)) {
      ++mended;
    } else {
      tables_ = whole;
    }
    for (int i = 0; i < 2000; ++i) {
      const Prefix host = some_host();
      for (const auto which : {SLUICE_GUARD_FROM, SLUICE_GUARD_TO}) {
        const auto& mine = tables_.classes[class_of6(tables_.prefixes[which], host)];
        const auto& theirs = whole.classes[class_of6(whole.prefixes[which], host)];
        ASSERT_EQ(std::memcmp(&mine, &theirs, sizeof mine), 0) << "step " << at;
        ASSERT_EQ(tables_.prefixes[which].prefixes6, whole.prefixes[which].prefixes6);
      }
    }
    before_ = after;
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
  // A small world, so that they meet, and nest in each other and in what the rules name.
  Prefix some_host() {
    Prefix host = prefix("2001:db8::");
    host.address[4] = static_cast<std::uint8_t>(below(3));
    host.address[6] = static_cast<std::uint8_t>(below(4));
    host.address[7] = static_cast<std::uint8_t>(below(4));
    host.address[8] = static_cast<std::uint8_t>(below(2));
    host.address[15] = static_cast<std::uint8_t>(below(6));
    host.length = 128;
    return host;
  }
  void add(std::set<Prefix>& set) {
    constexpr std::array<int, 10> kLengths{38, 40, 47, 56, 60, 63, 64, 65, 126, 128};
    Prefix made = some_host();
    made.length = static_cast<std::uint8_t>(kLengths[static_cast<std::size_t>(below(10))]);
    for (unsigned bit = made.length; bit < 128; ++bit)
      made.address[bit / 8] &= static_cast<std::uint8_t>(~(0x80U >> bit % 8));
    if (std::ranges::none_of(set, [&](const Prefix& one) { return meet(one, made); }))
      set.insert(made);
  }
  static bool meet(const Prefix& a, const Prefix& b) {
    for (unsigned bit = 0; bit < std::min(a.length, b.length); ++bit) {
      if (((a.address[bit / 8] ^ b.address[bit / 8]) & 0x80 >> bit % 8) != 0) return false;
    }
    return true;
  }
  PrefixSet set_of(std::size_t index) const {
    return std::make_shared<std::vector<Prefix>>(sets_[index].begin(), sets_[index].end());
  }
  GuardPlan plan() const {
    const std::vector<PrefixSet> sets{set_of(0), set_of(1), set_of(2)};
    GuardMatch first;
    first.from_sets = {sets[0]};
    first.from = prefixes({"2001:db8::/33", "2001:db8:100:203::/64", "2001:da8::/30"});
    GuardMatch second;
    second.from_sets = {sets[0], sets[1]};
    second.to_sets = {sets[2]};
    GuardMatch except;
    except.from_sets = {sets[2]};
    return guard_plan({drop("first", first, except), count("second", second), drop("all")});
  }
  static GuardTables compiled(const GuardPlan& plan) {
    auto made = compile_guard(plan, std::vector<std::uint16_t>{0, 1, 2}, {}, {});
    EXPECT_TRUE(made.has_value());
    return made ? std::move(*made) : GuardTables{};
  }

  std::mt19937 random_;
  std::vector<std::set<Prefix>> sets_;
  GuardPlan before_;
  GuardTables tables_;
};

TEST(GuardPatch, SaysOfIpv6WhatAWholeCompilationSays) {
  for (const unsigned seed : {1U, 2U, 3U}) {
    Walk6 walk(seed);
    int mended = 0;
    for (int at = 0; at < 60 && !HasFailure(); ++at)
      walk.step(at, mended);
    EXPECT_GE(mended, 40);
  }
}

TEST(GuardPatch, LeavesToAWholeCompilationWhatIsMore) {
  const auto with = [](const std::vector<std::string>& members, const char* name = "r") {
    GuardMatch match;
    match.from_sets = {std::make_shared<const std::vector<Prefix>>(prefixes(members))};
    return guard_plan({drop(name, match)});
  };
  const GuardPlan before = with({"192.0.2.1", "2001:db8::/64"});
  const auto tables = compile_guard(before, std::vector<std::uint16_t>{0}, {}, {});
  ASSERT_TRUE(tables.has_value());
  const auto mends = [&](const GuardPlan& after) {
    GuardTables copy = *tables;
    return patch_guard(before, after, copy);
  };
  EXPECT_TRUE(mends(with({"192.0.2.1", "192.0.2.9", "2001:db8::/64"})));
  EXPECT_TRUE(mends(with({"2001:db8::/64"})));
  EXPECT_TRUE(mends(with({"192.0.2.1", "2001:db8::/64", "2001:db8:1::/64"})));
  EXPECT_TRUE(mends(with({"192.0.2.1"})));
  EXPECT_FALSE(mends(with({"10.0.0.0/16", "192.0.2.1", "2001:db8::/64"}))) << "too wide";
  EXPECT_FALSE(mends(with({"192.0.2.1", "2001:db8::/64"}, "other"))) << "another rule";
  GuardPlan limited = before;
  limited.source_syn = PacketRate{.packets = 5};
  EXPECT_FALSE(mends(limited)) << "another slot";
}

}  // namespace
}  // namespace sluice::kernel
