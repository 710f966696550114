// Precedence, resolved in user space: what find_group answers is what the BPF program answers.
#include "kernel/steer_table.h"

#include <gtest/gtest.h>

#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using testing::entry;
using testing::plan_with;
using testing::prefix;
using testing::prefixes;

class SteerTableTest : public ::testing::Test {
 protected:
  SteerTable compile() {
    auto table = compile_steer_table(plan_, {own_, interfaces_}, [](std::uint32_t listener, WayIn) {
      return static_cast<std::uint16_t>(listener);
    });
    EXPECT_TRUE(table) << (table ? "" : table.error().message);
    return table ? *table : SteerTable{};
  }
  // The listener's name, or "" when nobody claims it.
  std::string outside(const std::string& to, std::uint16_t port,
                      const std::string& from = "198.51.100.9") {
    return name(find_group(compile(), SLUICE_STEER_OUTSIDE, prefix(from), prefix(to), port));
  }
  std::string on_node(const std::string& to, std::uint16_t port,
                      const std::string& from = "127.0.0.1") {
    return name(find_group(compile(), SLUICE_STEER_NODE, prefix(from), prefix(to), port));
  }
  std::string name(std::optional<std::uint16_t> group) {
    return group ? plan_.listeners[*group].name : "";
  }

  Plan plan_ = plan_with({"a", "b", "c", "d"});
  std::vector<Prefix> own_;
  std::map<std::string, unsigned> interfaces_;
};

TEST_F(SteerTableTest, LongerPrefixThenExactPortThenNarrowerRangeThenAny) {
  plan_.intercepts = {entry(WayIn::local, {"10.0.0.0/8"}, {{80, 80}}, 0),
                      entry(WayIn::local, {"10.0.0.0/8"}, {}, 1),
                      entry(WayIn::local, {"10.0.0.0/8"}, {{1, 1000}}, 2),
                      entry(WayIn::local, {"10.0.0.0/8"}, {{50, 90}}, 3),
                      entry(WayIn::local, {"10.1.0.0/16"}, {{80, 443}}, 2)};
  EXPECT_EQ(outside("10.9.9.9", 80), "a");
  EXPECT_EQ(outside("10.9.9.9", 81), "d");
  EXPECT_EQ(outside("10.9.9.9", 91), "c");
  EXPECT_EQ(outside("10.9.9.9", 1001), "b");
  EXPECT_EQ(outside("10.9.9.9", 0), "b");
  EXPECT_EQ(outside("10.9.9.9", 65535), "b");
  EXPECT_EQ(outside("10.1.2.3", 80), "c") << "a longer prefix beats an exact port";
  EXPECT_EQ(outside("10.1.2.3", 60), "d") << "what the longer prefix leaves is inherited";
  EXPECT_EQ(outside("11.0.0.1", 80), "");
}

TEST_F(SteerTableTest, SegmentsAreDisjointSortedAndJoined) {
  plan_.intercepts = {
      entry(WayIn::local, {"10.0.0.0/8"}, {{1, 100}, {101, 200}, {150, 160}, {300, 300}}, 0)};
  const SteerTable table = compile();
  for (const auto& destination : table.destinations) {
    if (destination.prefix != prefix("10.0.0.0/8")) continue;
    ASSERT_EQ(destination.ports.count, 2U);
    EXPECT_EQ(table.segments[destination.ports.first].first_port, 1);
    EXPECT_EQ(table.segments[destination.ports.first].last_port, 200);
    EXPECT_EQ(table.segments[destination.ports.first + 1].first_port, 300);
  }
}

TEST_F(SteerTableTest, VersionsNeverMix) {
  plan_.intercepts = {entry(WayIn::local, {"::/0"}, {}, 0)};
  EXPECT_EQ(outside("2001:db8::1", 80, "2001:db8::9"), "a");
  EXPECT_EQ(outside("192.0.2.1", 80), "");
  plan_.intercepts = {entry(WayIn::forward, {"0.0.0.0/0", "::/0"}, {}, 1)};
  plan_.intercepts[0].from = prefixes({"::/0"});
  EXPECT_EQ(outside("192.0.2.1", 80), "");
  EXPECT_EQ(outside("2001:db8::1", 80, "2001:db8::9"), "b");
}

TEST_F(SteerTableTest, ForwardBySource) {
  plan_.intercepts = {entry(WayIn::forward, {"0.0.0.0/0"}, {{443, 443}}, 0),
                      entry(WayIn::forward, {"0.0.0.0/0"}, {{443, 443}}, 1)};
  plan_.intercepts[0].from = prefixes({"10.1.0.0/16"});
  plan_.intercepts[0].except_from = prefixes({"10.1.7.0/24"});
  plan_.intercepts[1].from = prefixes({"10.0.0.0/8"});
  EXPECT_EQ(outside("192.0.2.1", 443, "10.1.2.3"), "a");
  EXPECT_EQ(outside("192.0.2.1", 443, "10.1.7.3"), "b");
  EXPECT_EQ(outside("192.0.2.1", 443, "10.2.0.1"), "b");
  EXPECT_EQ(outside("192.0.2.1", 443, "11.0.0.1"), "");
  EXPECT_EQ(on_node("192.0.2.1", 443), "") << "a forward entry has no say over lo";
}

TEST_F(SteerTableTest, LocalEntriesLeaveSourcesOut) {
  own_ = prefixes({"192.0.2.1"});
  plan_.intercepts = {entry(WayIn::local, {"192.0.2.1"}, {{80, 80}}, 0),
                      entry(WayIn::local, {"192.0.2.0/24"}, {{80, 80}}, 1)};
  plan_.intercepts[0].except_from = prefixes({"10.9.0.31", "127.0.0.0/8"});
  plan_.intercepts[1].except_from = prefixes({"10.9.0.32"});
  EXPECT_EQ(outside("192.0.2.1", 80, "10.9.0.30"), "a");
  EXPECT_EQ(outside("192.0.2.1", 80, "10.9.0.31"), "b") << "a hole in its own entry alone";
  EXPECT_EQ(outside("192.0.2.2", 80, "10.9.0.32"), "");
  EXPECT_EQ(on_node("192.0.2.1", 80, "127.0.0.1"), "b") << "over lo, too";
  EXPECT_EQ(on_node("192.0.2.1", 80, "192.0.2.1"), "a");
}

TEST_F(SteerTableTest, OverLoSourcesCountOnlyWhereAnEntryAsks) {
  plan_.intercepts = {entry(WayIn::local, {"192.0.2.1"}, {}, 0),
                      entry(WayIn::forward, {"0.0.0.0/0"}, {}, 1)};
  plan_.intercepts[1].except_from = prefixes({"10.9.0.31"});
  EXPECT_TRUE(compile().interfaces.empty());
  plan_.intercepts[0].except_from = prefixes({"10.9.0.31"});
  ASSERT_EQ(compile().interfaces.size(), 1U);
  EXPECT_EQ(compile().interfaces[0].index, SLUICE_STEER_LO);
}

TEST_F(SteerTableTest, ExceptIsAHoleInItsOwnEntryAlone) {
  plan_.intercepts = {entry(WayIn::forward, {"10.0.0.0/8"}, {}, 0),
                      entry(WayIn::forward, {"0.0.0.0/0"}, {}, 1)};
  plan_.intercepts[0].except_to = prefixes({"10.96.0.0/12"});
  EXPECT_EQ(outside("10.1.1.1", 80), "a");
  EXPECT_EQ(outside("10.96.1.1", 80), "b");
}

TEST_F(SteerTableTest, OwnAndLocalAddressesBelongToLocalEntries) {
  own_ = prefixes({"192.0.2.1", "2001:db8::1"});
  plan_.host_ports = {22};
  plan_.intercepts = {entry(WayIn::forward, {"0.0.0.0/0", "::/0"}, {}, 0),
                      entry(WayIn::output, {"0.0.0.0/0", "::/0"}, {}, 1),
                      entry(WayIn::local, {"192.0.2.0/24"}, {{80, 80}, {22, 22}}, 2)};
  EXPECT_EQ(outside("192.0.2.1", 443), "");
  EXPECT_EQ(outside("2001:db8::1", 443, "2001:db8::9"), "");
  EXPECT_EQ(outside("192.0.2.1", 80), "c");
  EXPECT_EQ(outside("192.0.2.1", 22), "") << "host_ports stay the host's";
  EXPECT_EQ(outside("192.0.2.2", 22), "c")
      << "an address that only the policy makes has no host to leave it to";
  EXPECT_EQ(outside("192.0.2.2", 443), "");
  EXPECT_EQ(outside("203.0.113.1", 443), "a");
  EXPECT_EQ(on_node("203.0.113.1", 443), "b");
  EXPECT_EQ(on_node("127.0.0.1", 443), "");
  EXPECT_EQ(on_node("::1", 443), "");
}

TEST_F(SteerTableTest, ProtectedPeersReachTheHostOnOwnAddresses) {
  own_ = prefixes({"192.0.2.1"});
  plan_.host_ports = {};
  plan_.intercepts = {entry(WayIn::local, {"192.0.2.0/24"}, {}, 0)};
  plan_.protect = {
      Protect{.peer = prefix("10.9.0.0/24"), .to_ports = {{80, 80}}, .interfaces = {}},
      Protect{.peer = prefix("10.8.0.0/24"), .to_ports = {}, .interfaces = {}, .upstream = true}};
  EXPECT_EQ(outside("192.0.2.1", 80, "10.9.0.1"), "");
  EXPECT_EQ(outside("192.0.2.1", 81, "10.9.0.1"), "a");
  EXPECT_EQ(outside("192.0.2.1", 80, "10.8.0.1"), "a");
  EXPECT_EQ(outside("192.0.2.2", 80, "10.9.0.1"), "a");
}

TEST_F(SteerTableTest, CgroupsThatSteeringCannotTellApartAreRefused) {
  plan_.intercepts = {entry(WayIn::output, {"0.0.0.0/0"}, {{443, 443}}, 0),
                      entry(WayIn::output, {"10.0.0.0/8"}, {{443, 443}}, 1)};
  plan_.intercepts[0].cgroups = {"/x"};
  plan_.intercepts[0].where = "p.yaml:3:5";
  const auto table =
      compile_steer_table(plan_, {own_, interfaces_}, [](std::uint32_t, WayIn) { return std::uint16_t{0}; });
  ASSERT_FALSE(table);
  EXPECT_NE(table.error().message.find("p.yaml:3:5"), std::string::npos) << table.error().message;
}

}  // namespace
}  // namespace sluice::kernel
