// Thousands of random rules and packets, judged by the program and by an oracle that reads the
// rules as a person would.
#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <net/if.h>
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
  bool syn;
  bool egress;
  int interface;  // of kInterfaces
};

const std::vector<std::string> kInterfaces{"lo", "w0", "w1"};

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

bool in_place(const GuardRule& rule, const Seen& seen) {
  if (seen.egress ? rule.direction == GuardDirection::ingress
                  : rule.direction == GuardDirection::egress)
    return false;
  if (!rule.interfaces) return true;
  if (rule.interfaces->empty()) return seen.interface != 0;  // auto: all that are up, and not lo
  return std::ranges::find(*rule.interfaces,
                           kInterfaces[static_cast<std::size_t>(seen.interface)]) !=
         rule.interfaces->end();
}

bool matches(const GuardRule& rule, const Seen& seen) {
  const GuardMatch& e = rule.except;
  const bool excepting =
      !e.from.empty() || !e.to.empty() || !e.from_ports.empty() || !e.to_ports.empty();
  return in_place(rule, seen) && holds(rule.match, seen) &&
         (!rule.protocol || *rule.protocol == seen.protocol) && !(excepting && holds(e, seen));
}

bool protects(const Protect& entry, const Seen& seen) {
  return in_prefix(entry.peer, seen.egress ? seen.to : seen.from) &&
         (entry.to_ports.empty() ||
          names(entry.to_ports, seen.egress ? seen.from_port : seen.to_port));
}

// Rates are one packet an hour in these tests, so that a bucket only ever empties.
class Oracle {
 public:
  static constexpr std::uint64_t kSynBurst = 3;

  void begin(const std::vector<GuardRule>& rules) {
    rules_ = rules;
    counters_.assign(rules.size(), {});
    taken_.assign(rules.size(), 0);
  }
  const std::vector<RuleCounter>& counters() const { return counters_; }

  bool drops(const Seen& seen, bool spared, bool syn_rates) {
    std::vector<std::size_t> matching;
    for (std::size_t r = 0; r < rules_.size(); ++r) {
      if (matches(rules_[r], seen)) matching.push_back(r);
    }
    if (!matching.empty() && spared) return false;
    bool dropped = false;
    for (const std::size_t r : matching) {
      ++counters_[r].packets;
      if (rules_[r].action == GuardAction::drop) dropped |= acts(r);
    }
    for (const std::size_t r : matching) {
      if (dropped || rules_[r].action != GuardAction::limit) continue;
      if (taken_[r] < rules_[r].rate->burst) {
        ++taken_[r];
      } else {
        dropped = acts(r);
      }
    }
    if (dropped || !syn_rates || !seen.syn || seen.egress) return dropped;
    return !syn_passes(seen) && !spared;
  }

 private:
  bool acts(std::size_t rule) {  // false: it only audits
    ++(rules_[rule].audit ? counters_[rule].would_drop : counters_[rule].dropped);
    return !rules_[rule].audit;
  }
  bool syn_passes(const Seen& seen) {
    Prefix source = seen.from;
    if (!source.v4) std::fill(source.address.begin() + 8, source.address.end(), 0);
    if (sources_[source] == kSynBurst) return false;
    ++sources_[source];
    auto& service = services_[{seen.to, seen.to_port}];
    if (service == kSynBurst) return false;
    ++service;
    return true;
  }

  std::vector<GuardRule> rules_;
  std::vector<RuleCounter> counters_;
  std::vector<std::uint64_t> taken_;
  // These buckets belong to no rule: a reload keeps them.
  std::map<Prefix, std::uint64_t> sources_;
  std::map<std::pair<Prefix, int>, std::uint64_t> services_;
};

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
    const GuardAction actions[] = {GuardAction::drop, GuardAction::count, GuardAction::limit};
    out.action = actions[below(3)];
    if (out.action == GuardAction::limit)
      out.rate = PacketRate{1, std::chrono::hours(1), static_cast<std::uint64_t>(1 + below(20))};
    out.audit = below(4) == 0;
    if (!ingress_only_) {
      const GuardDirection directions[] = {GuardDirection::ingress, GuardDirection::egress,
                                           GuardDirection::both};
      out.direction = directions[below(3)];
      const std::vector<std::string> lists[] = {{}, {"w0"}, {"w1"}, {"w0", "w1"}, {"other"}};
      if (below(3) == 0) out.interfaces = lists[below(5)];
    }
    return out;
  }
  void ingress_only(bool yes) { ingress_only_ = yes; }

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
    const std::uint8_t flags[] = {0x02, 0x02, 0x12, 0x10, 0xc2, 0};
    out.tcp_flags = flags[below(6)];
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
  bool ingress_only_ = false;
};

bool vital(const Frame& frame) {  // DHCP cannot come up: its ports are not among the world's
  return frame.vlan_types.size() > 2;
}

Seen seen(const Frame& frame, bool egress, int interface) {
  const bool ports = frame.fragment_offset == 0 &&
                     (frame.protocol == 6 || frame.protocol == 17 || frame.protocol == 132);
  const bool syn = ports && frame.protocol == 6 && (frame.tcp_flags & 0x12) == 0x02;
  return {frame.from,
          frame.to,
          frame.protocol,
          ports ? frame.from_port : -1,
          ports ? frame.to_port : -1,
          syn,
          egress,
          interface};
}

std::vector<Protect> some_protect(World& world) {
  std::vector<Protect> out;
  for (int i = world.below(4); i > 0; --i) {
    Protect entry{world.some_prefix(), {}, {}};
    if (entry.peer.length < 20) continue;
    if (world.below(2) == 0) entry.to_ports = {world.range()};
    out.push_back(std::move(entry));
  }
  return out;
}

// The same rules with some of their prefixes in sets; the oracle reads lists.
std::vector<GuardRule> with_sets(World& world, std::vector<GuardRule> rules) {
  const auto move_some = [&](std::vector<Prefix>& list, std::vector<PrefixSet>& sets) {
    if (list.empty() || world.below(3) != 0) return;
    const auto at = list.begin() + world.below(static_cast<int>(list.size()));
    sets.push_back(std::make_shared<const std::vector<Prefix>>(at, list.end()));
    list.erase(at, list.end());
    if (world.below(4) == 0) sets.push_back(std::make_shared<const std::vector<Prefix>>());
  };
  for (GuardRule& rule : rules) {
    for (GuardMatch* match : {&rule.match, &rule.except}) {
      move_some(match->from, match->from_sets);
      move_some(match->to, match->to_sets);
    }
  }
  return rules;
}

void compare(World& world, RunningGuard& running, Oracle& oracle, GuardHook hook, int rule_count,
             int packets) {
  const bool xdp = hook != GuardHook::tc;
  world.ingress_only(xdp);
  GuardPlan plan = guard_plan({});
  plan.interfaces = {"w*"};
  plan.hook = hook;
  for (int i = 0; i < rule_count; ++i)
    plan.rules.push_back(world.rule(i));
  const bool syn_rates = world.below(2) == 0;
  if (syn_rates) {
    const PacketRate rate{1, std::chrono::hours(1), Oracle::kSynBurst};
    plan.source_syn = plan.service_syn = rate;
  }
  const std::vector<Protect> protect = some_protect(world);
  const bool egress = std::ranges::any_of(
      plan.rules, [](const GuardRule& rule) { return rule.direction != GuardDirection::ingress; });
  running.apply(std::vector<GuardRule>{});  // so that counters begin at 0, and buckets full
  GuardPlan given = plan;
  given.rules = with_sets(world, plan.rules);
  running.apply(given, protect);
  oracle.begin(plan.rules);
  for (int i = 0; i < packets; ++i) {
    const Frame frame = world.frame();
    const int interface = xdp ? 0 : world.below(3);
    const bool out = egress && world.below(3) == 0;
    const Seen as_seen = seen(frame, out, interface);
    const bool spared = std::ranges::any_of(
        protect, [&](const Protect& entry) { return protects(entry, as_seen); });
    const bool dropped = !vital(frame) && oracle.drops(as_seen, spared, syn_rates);
    const Entry entry = xdp ? Entry::xdp : out ? Entry::egress : Entry::ingress;
    const unsigned index =
        interface == 0 ? 0
                       : if_nametoindex(kInterfaces[static_cast<std::size_t>(interface)].c_str());
    ASSERT_EQ(running.verdict_at(entry, frame.bytes(), index), dropped ? kDrop : kPass)
        << "packet " << i << " of " << rule_count << " rules, entry " << static_cast<int>(entry);
  }
  const auto counters = running.guard->rule_counters();
  ASSERT_EQ(counters.size(), plan.rules.size());
  for (std::size_t r = 0; r < counters.size(); ++r) {
    EXPECT_EQ(counters[r].packets, oracle.counters()[r].packets) << "rule " << r;
    EXPECT_EQ(counters[r].dropped, oracle.counters()[r].dropped) << "rule " << r;
    EXPECT_EQ(counters[r].would_drop, oracle.counters()[r].would_drop) << "rule " << r;
  }
}

void compare_many(GuardHook hook, unsigned seed) {
  shell("ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up");
  World world(seed);
  Oracle oracle;
  RunningGuard running;
  for (const int rules : {1, 1, 1, 2, 2, 3, 3, 4, 5, 8, 12, 20, 63, 64, 65, 100, 128, 300, 1024}) {
    compare(world, running, oracle, hook, rules, 1000);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(GuardRandom, TcAgreesWithTheOracle) {
  in_sandbox([] { compare_many(GuardHook::tc, 20240817); });
}

TEST(GuardRandom, TcAgreesWithTheOracleWhereFramesAreReadByHelpers) {
  RunningGuard::reads_plain_frames = false;
  in_sandbox([] { compare_many(GuardHook::tc, 20240819); });
  RunningGuard::reads_plain_frames = true;
}

TEST(GuardRandom, XdpAgreesWithTheOracle) {
  in_sandbox([] { compare_many(GuardHook::xdp, 20240818); });
}

// --- many prefixes: every shape of a leaf and of a bucket
// -----------------------------------------

// Prefixes crowd into few blocks, so that /24s fill up with hosts, ranges and nested ranges.
class CrowdedWorld {
 public:
  explicit CrowdedWorld(unsigned seed) : random_(seed) {}

  Prefix host(bool v4) {
    Prefix out = prefix(v4 ? "10.0.0.0" : "2001:db8::");
    const auto byte = [&](int limit) { return static_cast<std::uint8_t>(below(limit)); };
    if (v4) {
      out.address[13] = byte(3);
      out.address[14] = byte(40);
      out.address[15] = byte(256);
    } else {
      out.address[3] = byte(3);
      for (const int at : {5, 7, 9, 15})
        out.address[static_cast<std::size_t>(at)] = byte(4);
    }
    return out;
  }
  Prefix block(bool v4) {
    Prefix out = host(v4);
    const int lengths4[] = {0, 8, 15, 16, 17, 22, 23, 24, 25, 28, 30, 31, 32, 32, 32, 32};
    const int lengths6[] = {0, 16, 31, 32, 33, 40, 48, 56, 63, 64, 65, 80, 127, 128, 128, 128};
    out.length = static_cast<std::uint8_t>(v4 ? 96 + lengths4[below(16)] : lengths6[below(16)]);
    if (out.length == (v4 ? 96 : 0) && below(50) != 0) out.length = 128;
    for (int bit = out.length; bit < 128; ++bit)
      out.address[bit / 8] &= static_cast<std::uint8_t>(~(0x80 >> bit % 8));
    return out;
  }
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }

 private:
  std::mt19937 random_;
};

TEST(GuardRandom, ManyPrefixesAgreeWithTheOracle) {
  in_sandbox([] {
    CrowdedWorld world(7);
    RunningGuard running;
    for (const int count : {3, 30, 300, 3000, 10000}) {
      std::vector<GuardRule> rules;
      for (int i = 0; i < 12; ++i)
        rules.push_back(testing::count("r" + std::to_string(i)));
      for (int i = 0; i < count; ++i) {
        GuardRule& rule = rules[static_cast<std::size_t>(world.below(12))];
        GuardMatch& match = world.below(4) == 0 ? rule.except : rule.match;
        (world.below(3) == 0 ? match.to : match.from).push_back(world.block(world.below(2) == 0));
      }
      running.apply(std::vector<GuardRule>{});
      running.apply(rules);
      std::vector<std::uint64_t> expected(rules.size());
      for (int i = 0; i < 1500; ++i) {
        const bool v4 = world.below(2) == 0;
        Frame frame;
        frame.from = world.host(v4);
        frame.to = world.host(v4);
        const Seen as_seen = seen(frame, false, 0);
        for (std::size_t r = 0; r < rules.size(); ++r)
          expected[r] += matches(rules[r], as_seen) ? 1 : 0;
        running.verdict(frame);
      }
      for (std::size_t r = 0; r < rules.size(); ++r)
        EXPECT_EQ(running.packets(rules[r].name), expected[r]) << count << " prefixes, rule " << r;
    }
  });
}

}  // namespace
}  // namespace sluice::kernel
