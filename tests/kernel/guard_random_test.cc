// Thousands of random rules and packets, judged by the program and by an oracle that reads the
// rules as a person would.
#include <algorithm>
#include <gtest/gtest.h>
#include <random>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

// --- the oracle: shares no code with the guard
// -------------------------------------------------------

bool in_prefix(const Prefix& prefix, const Prefix& host) {
  if (prefix.v4 != host.v4) return false;
  for (int bit = 0; bit < prefix.length; ++bit) {
    const auto one = [bit](const Prefix& p) { return p.address[bit / 8] >> (7 - bit % 8) & 1; };
    if (one(prefix) != one(host)) return false;
  }
  return true;
}

bool names(const std::vector<Prefix>& prefixes, const Prefix& host) {
  return std::ranges::any_of(prefixes,
                             [&](const Prefix& prefix) { return in_prefix(prefix, host); });
}

struct Seen {
  Prefix from, to;
  int protocol;
  int from_port, to_port;  // -1: none
};

bool names(const std::vector<PortRange>& ranges, int port) {
  return std::ranges::any_of(
      ranges, [&](const PortRange& range) { return range.first <= port && port <= range.last; });
}

bool holds(const GuardMatch& match, const Seen& seen) {
  return (match.from.empty() || names(match.from, seen.from)) &&
         (match.to.empty() || names(match.to, seen.to)) &&
         (match.from_ports.empty() || names(match.from_ports, seen.from_port)) &&
         (match.to_ports.empty() || names(match.to_ports, seen.to_port));
}

bool matches(const GuardRule& rule, const Seen& seen) {
  const GuardMatch& e = rule.except;
  const bool excepting =
      !e.from.empty() || !e.to.empty() || !e.from_ports.empty() || !e.to_ports.empty();
  return holds(rule.match, seen) && (!rule.protocol || *rule.protocol == seen.protocol) &&
         !(excepting && holds(e, seen));
}

bool protects(const Protect& entry, const Seen& seen) {
  return in_prefix(entry.peer, seen.from) &&
         (entry.to_ports.empty() || names(entry.to_ports, seen.to_port));
}

// --- random input: from a small world, so that things meet
// -------------------------------------------

class World {
 public:
  explicit World(unsigned seed) : random_(seed) {}

  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }

  Prefix host(bool v4) {
    Prefix out = prefix(v4 ? "10.0.0.0" : "2001:db8::");
    for (const int byte : {12, 13, 14, 15}) {
      if (!v4 || byte > 12)
        out.address[byte] = static_cast<std::uint8_t>(below(2) == 0 ? 0 : below(4) << 6 | below(3));
    }
    if (!v4) out.address[5] = static_cast<std::uint8_t>(below(3));
    return out;
  }

  Prefix some_prefix() {
    const bool v4 = below(2) == 0;
    Prefix out = host(v4);
    const int lengths4[] = {0, 1, 8, 10, 16, 17, 24, 26, 31, 32};
    const int lengths6[] = {0, 3, 32, 46, 48, 64, 97, 104, 127, 128};
    out.length = static_cast<std::uint8_t>(v4 ? 96 + lengths4[below(10)] : lengths6[below(10)]);
    for (int bit = out.length; bit < 128; ++bit)
      out.address[bit / 8] &= static_cast<std::uint8_t>(~(0x80 >> bit % 8));
    return out;
  }

  std::uint16_t port() {
    const std::uint16_t ports[] = {0, 1, 22, 53, 80, 81, 443, 8000, 8080, 65534, 65535};
    return ports[below(11)];
  }

  GuardMatch match(int chance) {
    GuardMatch out;
    const auto some = [&](auto& list, auto make) {
      if (below(100) < chance) {
        for (int i = below(4); i >= 0; --i)
          list.push_back(make());
      }
    };
    some(out.from, [&] { return some_prefix(); });
    some(out.to, [&] { return some_prefix(); });
    some(out.from_ports, [&] { return range(); });
    some(out.to_ports, [&] { return range(); });
    return out;
  }

  PortRange range() {
    const std::uint16_t a = port();
    const std::uint16_t b = below(2) == 0 ? a : port();
    return {std::min(a, b), std::max(a, b)};
  }

  GuardRule rule(int number) {
    GuardRule out;
    out.name = "r" + std::to_string(number);
    out.match = match(45);
    if (below(2) == 0) out.except = match(40);
    const std::uint8_t protocols[] = {6, 17, 1, 58, 132, 47};
    if (below(3) == 0) out.protocol = protocols[below(6)];
    out.action = below(2) == 0 ? GuardAction::drop : GuardAction::count;
    return out;
  }

  Frame frame() {
    Frame out;
    const bool v4 = below(2) == 0;
    out.from = host(v4);
    out.to = host(v4);
    const std::uint8_t protocols[] = {6, 6, 17, 17, 132, 47, 1, 58};
    out.protocol = protocols[below(8)];
    out.icmp_type = v4 ? 8 : 128;
    out.from_port = port();
    out.to_port = port();
    for (int i = below(6) - 3; i > 0; --i)
      out.vlan_types.push_back(below(2) == 0 ? 0x8100 : 0x88a8);
    if (v4 && below(4) == 0) out.option_words = static_cast<std::size_t>(below(11));
    if (below(5) == 0) out.fragment_offset = static_cast<std::uint16_t>(1 + below(8000));
    if (!v4) {
      const std::uint8_t kinds[] = {0, 43, 60, 51, 135, 139, 140};
      for (int i = below(8) - 3; i > 0; --i)
        out.extensions.push_back(kinds[below(7)]);
      if (out.fragment_offset != 0) out.extensions.push_back(44);
    }
    return out;
  }

 private:
  std::mt19937 random_;
};

bool vital(const Frame& frame) {  // DHCP cannot come up: its ports are not among the world's
  return frame.vlan_types.size() > 2;
}

Seen seen(const Frame& frame) {
  const bool ports = frame.fragment_offset == 0 &&
                     (frame.protocol == 6 || frame.protocol == 17 || frame.protocol == 132);
  return {frame.from, frame.to, frame.protocol, ports ? frame.from_port : -1,
          ports ? frame.to_port : -1};
}

void compare(World& world, RunningGuard& running, int rule_count, int packets) {
  std::vector<GuardRule> rules;
  for (int i = 0; i < rule_count; ++i)
    rules.push_back(world.rule(i));
  std::vector<Protect> protect;
  for (int i = world.below(4); i > 0; --i) {
    protect.push_back({world.some_prefix(), {}, {}});
    if (protect.back().peer.length < 20)
      protect.pop_back();
    else if (world.below(2) == 0)
      protect.back().to_ports = {world.range()};
  }
  running.apply(std::vector<GuardRule>{});  // so that counters begin at 0
  running.apply(rules, protect);
  std::vector<std::uint64_t> expected(rules.size());
  for (int i = 0; i < packets; ++i) {
    const Frame frame = world.frame();
    const Seen as_seen = seen(frame);
    bool drops = false;
    const bool spared = vital(frame) || std::ranges::any_of(protect, [&](const Protect& p) {
                          return protects(p, as_seen);
                        });
    for (std::size_t r = 0; r < rules.size() && !spared; ++r) {
      if (!matches(rules[r], as_seen)) continue;
      ++expected[r];
      drops |= rules[r].action == GuardAction::drop;
    }
    ASSERT_EQ(running.verdict(frame), drops ? kDrop : kPass)
        << "packet " << i << " of " << rule_count << " rules";
  }
  const auto counters = running.guard->rule_counters();
  ASSERT_EQ(counters.size(), rules.size());
  for (std::size_t r = 0; r < rules.size(); ++r)
    EXPECT_EQ(counters[r].packets, expected[r]) << "rule " << r;
}

TEST(GuardRandom, AgreesWithTheOracle) {
  in_sandbox([] {
    World world(20240817);
    RunningGuard running;
    for (const int rules :
         {1, 1, 1, 2, 2, 3, 3, 4, 5, 8, 12, 20, 63, 64, 65, 100, 128, 300, 1024}) {
      compare(world, running, rules, 1500);
      if (::testing::Test::HasFailure()) return;
    }
  });
}

}  // namespace
}  // namespace sluice::kernel
