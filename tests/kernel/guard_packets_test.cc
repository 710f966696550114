// How far into a frame the guard sees, and that it never decides by what is not there.
#include <cstring>
#include <gtest/gtest.h>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

// By address for one peer of each version, by port for all others.
void apply_both(RunningGuard& running) {
  running.apply(
      {drop("peer", from({"198.51.100.7", "2001:db8::7"})), drop("port", to_ports({{80, 80}}))});
}
Frame peer4() {
  return tcp("198.51.100.7", "10.0.0.1", 443);
}
Frame peer6() {
  return tcp("2001:db8::7", "2001:db8::1", 443);
}
Frame port4() {
  return tcp("198.51.100.8", "10.0.0.1", 80);
}
Frame port6() {
  return tcp("2001:db8::8", "2001:db8::1", 80);
}

// By both ways to read a frame: where it lies, if it is plain, and by helpers.
class GuardPackets : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { RunningGuard::reads_plain_frames = GetParam(); }
  void TearDown() override { RunningGuard::reads_plain_frames = true; }
};
INSTANTIATE_TEST_SUITE_P(Reads, GuardPackets, ::testing::Bool(),
                         [](const auto& one) { return one.param ? "WhereItLies" : "ByHelpers"; });

TEST_P(GuardPackets, UpToTwoVlanTags) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    for (Frame frame : {peer4(), peer6(), port4(), port6()}) {
      frame.vlan_types = {0x8100};
      EXPECT_EQ(running.verdict(frame), kDrop);
      frame.vlan_types = {0x88a8, 0x8100};
      EXPECT_EQ(running.verdict(frame), kDrop);
      frame.vlan_types = {0x88a8, 0x8100, 0x8100};
      EXPECT_EQ(running.verdict(frame), kPass);
    }
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "not_ip"), 4);
    Frame other = tcp("198.51.100.8", "10.0.0.1", 81);
    other.vlan_types = {0x8100, 0x8100};
    EXPECT_EQ(running.verdict(other), kPass);
  });
}

TEST_P(GuardPackets, Ipv4Options) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    for (std::size_t words = 0; words <= 10; ++words) {
      Frame frame = port4();
      frame.option_words = words;
      EXPECT_EQ(running.verdict(frame), kDrop) << words;
      frame.to_port = 81;
      EXPECT_EQ(running.verdict(frame), kPass) << words;
    }
  });
}

TEST_P(GuardPackets, EightExtensionHeadersAreWalkedNineAreNot) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    for (const int kind : {0, 43, 60, 51, 135, 139, 140}) {
      Frame frame = port6();
      frame.extensions = {static_cast<std::uint8_t>(kind)};
      EXPECT_EQ(running.verdict(frame), kDrop) << kind;
      frame.to_port = 81;
      EXPECT_EQ(running.verdict(frame), kPass) << kind;
    }
    Frame mixed = port6();
    mixed.extensions = {0, 60, 43, 44, 51, 60, 135, 139};
    EXPECT_EQ(running.verdict(mixed), kDrop);
    mixed.to_port = 81;
    EXPECT_EQ(running.verdict(mixed), kPass);
    Frame nine = port6();
    nine.extensions.assign(9, 60);
    EXPECT_EQ(running.verdict(nine), kPass);
    nine.from = prefix("2001:db8::7");
    EXPECT_EQ(running.verdict(nine), kDrop);  // its addresses are there
    EXPECT_EQ(running.sample("sluice_guard_notes_total", "too_many_ext"), 2);
  });
}

TEST_P(GuardPackets, OnlyTheFirstFragmentHasPorts) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    Frame first = port4();
    first.more_fragments = true;
    EXPECT_EQ(running.verdict(first), kDrop);
    Frame later = first;
    later.fragment_offset = 4;
    // Its first payload bytes say port 80 and are no port.
    std::vector<std::uint8_t> bytes = later.bytes();
    bytes[14 + 20 + 3] = 80;
    EXPECT_EQ(running.verdict(bytes), kPass);
    later.from = prefix("198.51.100.7");
    EXPECT_EQ(running.verdict(later), kDrop);
    later.more_fragments = false;
    EXPECT_EQ(running.verdict(later), kDrop);

    Frame first6 = port6();
    first6.extensions = {0, 44, 60};
    first6.more_fragments = true;
    EXPECT_EQ(running.verdict(first6), kDrop);
    Frame later6 = port6();
    later6.extensions = {44};
    later6.fragment_offset = 185;
    bytes = later6.bytes();
    bytes[14 + 40 + 8 + 3] = 80;
    EXPECT_EQ(running.verdict(bytes), kPass);
    later6.from = prefix("2001:db8::7");
    EXPECT_EQ(running.verdict(later6), kDrop);
    EXPECT_EQ(running.sample("sluice_guard_notes_total", "fragment_no_ports"), 5);
  });
}

TEST_P(GuardPackets, LaterFragmentsMatchByProtocol) {
  in_sandbox([] {
    RunningGuard running;
    GuardRule rule = drop("udp");
    rule.protocol = 17;
    running.apply({rule});
    Frame v4 = udp("198.51.100.7", "10.0.0.1");
    v4.fragment_offset = 10;
    EXPECT_EQ(running.verdict(v4), kDrop);
    Frame v6 = udp("2001:db8::7", "2001:db8::1");
    v6.extensions = {44};
    v6.fragment_offset = 10;
    EXPECT_EQ(running.verdict(v6), kDrop);
    v6.protocol = 6;
    EXPECT_EQ(running.verdict(v6), kPass);
  });
}

TEST_P(GuardPackets, LengthsThatLie) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    const auto with = [](Frame frame, std::uint16_t length) {
      frame.length = length;
      return frame;
    };
    // The header says that the packet ends before its ports: what follows is padding.
    EXPECT_EQ(running.verdict(with(port4(), 20)), kPass);
    EXPECT_EQ(running.verdict(with(port4(), 23)), kPass);
    EXPECT_EQ(running.verdict(with(port4(), 24)), kDrop);
    EXPECT_EQ(running.verdict(with(port6(), 3)), kPass);
    EXPECT_EQ(running.verdict(with(port6(), 4)), kDrop);
    EXPECT_EQ(running.verdict(with(peer4(), 20)), kDrop);
    EXPECT_EQ(running.verdict(with(peer6(), 0)), kDrop);
    EXPECT_EQ(running.sample("sluice_guard_notes_total", "truncated"), 5);
    // Shorter than its own header: broken, the stack's business.
    EXPECT_EQ(running.verdict(with(peer4(), 19)), kPass);
    EXPECT_EQ(running.verdict(with(peer4(), 0)), kPass);
    // Longer than the frame.
    EXPECT_EQ(running.verdict(with(port4(), 65535)), kDrop);
    EXPECT_EQ(running.verdict(with(port6(), 65535)), kDrop);
    Frame short_header = peer4();
    short_header.header_words = 4;
    EXPECT_EQ(running.verdict(short_header), kPass);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "malformed"), 3);
    Frame long_header = port4();
    long_header.header_words = 15;  // beyond the total length
    long_header.length = 40;
    EXPECT_EQ(running.verdict(long_header), kPass);
    long_header.from = prefix("198.51.100.7");
    EXPECT_EQ(running.verdict(long_header), kDrop);
  });
}

TEST_P(GuardPackets, AWrongVersionPasses) {
  in_sandbox([] {
    RunningGuard running;
    running.apply({drop("all")});
    for (const Frame& frame : {peer4(), peer6()}) {
      auto bytes = frame.bytes();
      bytes[14] ^= 0x10;
      EXPECT_EQ(running.verdict(bytes), kPass);
    }
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "malformed"), 2);
  });
}

// Cut anywhere, a packet is judged by what is left of it. The kernel's test run takes 14 bytes at
// least.
TEST_P(GuardPackets, TruncatedAtEveryByte) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    const auto check = [&](Frame frame, std::size_t addresses_end, std::size_t ports_end,
                           bool by_port) {
      const auto whole = frame.bytes();
      for (std::size_t size = frame.vlan_types.empty() ? addresses_end : 15; size <= whole.size();
           ++size) {
        const std::vector<std::uint8_t> cut(whole.begin(),
                                            whole.begin() + static_cast<std::ptrdiff_t>(size));
        const bool drops = size >= addresses_end && (!by_port || size >= ports_end);
        EXPECT_EQ(running.verdict(cut), drops ? kDrop : kPass) << size;
      }
    };
    check(peer4(), 14 + 20, 0, false);
    check(port4(), 14 + 20, 14 + 24, true);
    check(peer6(), 14 + 40, 0, false);
    check(port6(), 14 + 40, 14 + 44, true);
    Frame options = port4();
    options.option_words = 3;
    check(options, 14 + 20, 14 + 32 + 4, true);
    Frame extended = port6();
    extended.extensions = {0, 44, 51};
    check(extended, 14 + 40, 14 + 40 + 16 + 8 + 12 + 4, true);
    Frame tagged = port6();
    tagged.vlan_types = {0x88a8, 0x8100};
    check(tagged, 14 + 48, 14 + 48 + 4, true);
    tagged = peer6();
    tagged.vlan_types = {0x8100};
    check(tagged, 14 + 44, 0, false);
    tagged = port4();
    tagged.vlan_types = {0x8100};
    check(tagged, 14 + 24, 14 + 28, true);
    tagged = peer4();
    tagged.vlan_types = {0x8100, 0x8100};
    check(tagged, 14 + 28, 0, false);
  });
}

TEST_P(GuardPackets, AnExtensionHeaderThatLiesEndsTheWalk) {
  in_sandbox([] {
    RunningGuard running;
    apply_both(running);
    Frame frame = port6();
    frame.extensions = {60};
    auto bytes = frame.bytes();
    bytes[14 + 40 + 1] = 255;  // 2048 bytes of options
    EXPECT_EQ(running.verdict(bytes), kPass);
    frame.from = prefix("2001:db8::7");
    bytes = frame.bytes();
    bytes[14 + 40 + 1] = 255;
    EXPECT_EQ(running.verdict(bytes), kDrop);
  });
}

}  // namespace
}  // namespace sluice::kernel
