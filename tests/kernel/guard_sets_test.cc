// Sets in rules: shared by several, empty, large; the program judges frames against them.
#include <algorithm>
#include <chrono>
#include <gtest/gtest.h>
#include <random>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

PrefixSet set_of(const std::vector<std::string>& texts) {
  return std::make_shared<const std::vector<Prefix>>(prefixes(texts));
}

GuardMatch from_sets(std::vector<PrefixSet> sets) {
  GuardMatch match;
  match.from_sets = std::move(sets);
  return match;
}

TEST(GuardSets, AreSharedByRulesAndStandBesidePrefixes) {
  in_sandbox([] {
    RunningGuard running;
    const PrefixSet bad = set_of({"198.51.100.0/24", "2001:db8:1::/48"});
    const PrefixSet good = set_of({"198.51.100.7"});
    GuardRule both = drop("both", from_sets({bad}) & from({"203.0.113.9"}));
    both.except = from_sets({good});
    GuardRule towards = count("towards");
    towards.match.to_sets = {bad};
    running.apply({both, towards, count("seen", from_sets({bad, good}))});
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("198.51.100.7", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("203.0.113.9", "10.0.0.1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("203.0.113.8", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8:1::5", "2001:db8::1")), kDrop);
    EXPECT_EQ(running.verdict(tcp("10.0.0.1", "198.51.100.200")), kPass);
    EXPECT_EQ(running.packets("both"), 3U);
    EXPECT_EQ(running.packets("seen"), 3U);
    EXPECT_EQ(running.packets("towards"), 1U);
  });
}

TEST(GuardSets, AnEmptyOneNamesNobody) {
  in_sandbox([] {
    RunningGuard running;
    GuardRule excepting = drop("excepting", to_ports({{81, 81}}));
    excepting.except = from_sets({set_of({})});
    running.apply({drop("nobody", from_sets({set_of({})})), excepting});
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1")), kPass);
    EXPECT_EQ(running.verdict(tcp("2001:db8::8", "2001:db8::1")), kPass);
    EXPECT_EQ(running.verdict(tcp("198.51.100.8", "10.0.0.1", 81)), kDrop);
    EXPECT_EQ(running.packets("nobody"), 0U);
  });
}

// The size of DESIGN's targets, without a word about time: a thousand rules of every kind and a
// hundred thousand prefixes answer exactly, before and after a swap.
TEST(GuardSets, AThousandRulesAndAHundredThousandPrefixes) {
  in_sandbox([] {
    std::mt19937 random(11);
    auto list = std::make_shared<std::vector<Prefix>>();
    for (int i = 0; i < 100'000; ++i) {
      Prefix one = prefix("0.0.0.0");
      const std::uint32_t address = 0x0b000000U + static_cast<std::uint32_t>(i) * 331;
      for (int byte = 0; byte < 4; ++byte)
        one.address[12 + static_cast<std::size_t>(byte)] =
            static_cast<std::uint8_t>(address >> (24 - 8 * byte));
      list->push_back(one);
    }
    const PrefixSet set = list;
    std::vector<GuardRule> rules{drop("listed", from_sets({set}))};
    for (int i = 0; i < 1000; ++i) {
      const auto port = static_cast<std::uint16_t>(1000 + i);
      rules.push_back(count("p" + std::to_string(i), to_ports({{port, port}})));
      if (i % 3 == 0) rules.back().protocol = 17;
      if (i % 5 == 0) rules.back().except = from({"203.0.113.0/24"});
    }
    RunningGuard running;
    running.apply(rules);
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 2000; ++i) {
        const auto& named = (*set)[random() % set->size()];
        Frame frame = tcp("192.0.2.1", "10.0.0.1", 1001);
        frame.from = named;
        ASSERT_EQ(running.verdict(frame), kDrop);
        frame.from.address[15] ^= 1;  // they are 331 apart
        ASSERT_EQ(running.verdict(frame), kPass);
      }
      EXPECT_EQ(running.packets("listed"), static_cast<std::uint64_t>(2000 * (round + 1)));
      EXPECT_EQ(running.packets("p1"), static_cast<std::uint64_t>(4000 * (round + 1)));
      std::ranges::reverse(rules);
      running.apply(rules);  // in the other order: the counters go along
    }
    EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_prefixes4"), 100'001);
  });
}

}  // namespace
}  // namespace sluice::kernel
