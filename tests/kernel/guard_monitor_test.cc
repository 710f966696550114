// The monitor: what passed, by service and by source, from TC and XDP alike.
#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <optional>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

constexpr std::uint8_t kSyn = 0x02;
constexpr std::uint8_t kAck = 0x10;
constexpr std::uint8_t kRst = 0x04;

GuardPlan monitoring(GuardHook hook, std::vector<GuardRule> rules = {}) {
  GuardPlan plan = guard_plan(std::move(rules));
  plan.monitor_services = plan.monitor_sources = true;
  plan.hook = hook;
  return plan;
}

// A segment with a TCP header of `words` and `text` behind it.
std::vector<std::uint8_t> segment(Frame frame, std::uint8_t flags, const std::string& text = {},
                                  std::uint8_t words = 5) {
  frame.tcp_flags = flags;
  frame.payload = words * 4U - 4 + text.size();
  std::vector<std::uint8_t> bytes = frame.bytes();
  const std::size_t tcp = bytes.size() - frame.payload - 4;
  bytes[tcp + 12] = static_cast<std::uint8_t>(words << 4);
  std::memcpy(bytes.data() + tcp + words * 4U, text.data(), text.size());
  return bytes;
}

std::optional<Seen> find(const std::vector<Seen>& all, const std::string& address,
                         std::uint16_t port) {
  const auto found = std::ranges::find_if(all, [&](const Seen& seen) {
    return seen.address == prefix(address) && seen.port == port;
  });
  return found == all.end() ? std::nullopt : std::optional(*found);
}

void counts_by_service_and_source(GuardHook hook) {
  shell("ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up");
  RunningGuard running;
  GuardPlan plan = monitoring(hook, {drop("bad", from({"198.51.100.66"}))});
  plan.interfaces = {"w0"};
  running.apply(plan);
  const Entry entry = hook == GuardHook::tc ? Entry::ingress : Entry::xdp;
  const auto send = [&](const std::vector<std::uint8_t>& bytes) {
    return running.verdict_at(entry, bytes);
  };
  const Frame four = tcp("198.51.100.7", "203.0.113.1", 443);
  const Frame six = tcp("2001:db8:5:6::9", "2001:db8::1", 80);
  // What nobody opened is not counted: the answers to the node's own connections.
  EXPECT_EQ(send(segment(four, kAck | kSyn)), kPass);
  EXPECT_EQ(send(segment(four, kAck, "GET / HTTP/1.1")), kPass);
  EXPECT_TRUE(running.guard->seen(SeenBy::service).empty());

  std::size_t bytes = 0;
  for (const auto& one :
       {segment(four, kSyn), segment(four, kAck, "GET / HTTP/1.1\r\n"), segment(four, kAck, "ET /"),
        segment(four, kAck, "POST /v1 HTTP/1.1", 8), segment(four, kAck | kRst),
        segment(four, kAck)}) {
    bytes += one.size();
    EXPECT_EQ(send(one), kPass);
  }
  EXPECT_EQ(send(segment(six, kSyn)), kPass);
  EXPECT_EQ(send(segment(six, kAck, "PRI * HTTP/2.0")), kPass);
  EXPECT_EQ(send(segment(tcp("198.51.100.66", "203.0.113.1", 443), kSyn)), kDrop);
  EXPECT_EQ(send(udp("198.51.100.7", "203.0.113.1", 443).bytes()), kPass);

  const auto service = find(running.guard->seen(SeenBy::service), "203.0.113.1", 443);
  ASSERT_TRUE(service);
  EXPECT_EQ(service->packets, 6U);
  EXPECT_EQ(service->bytes, bytes);
  EXPECT_EQ(service->connections, 1U);
  EXPECT_EQ(service->resets, 1U);
  EXPECT_EQ(service->requests, 2U);
  const auto other = find(running.guard->seen(SeenBy::service), "2001:db8::1", 80);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->requests, 1U);
  EXPECT_EQ(running.guard->seen(SeenBy::service).size(), 2U);

  const auto sources = running.guard->seen(SeenBy::source);
  EXPECT_EQ(sources.size(), 2U);
  const auto source = find(sources, "198.51.100.7", 0);
  ASSERT_TRUE(source);
  EXPECT_EQ(source->packets, 6U);
  EXPECT_TRUE(find(sources, "2001:db8:5:6::/64", 0)) << "an IPv6 source is its /64";
  EXPECT_EQ(running.sample("sluice_kernel_map_entries", "guard_monitor_services"), 2);
  EXPECT_EQ(running.sample("sluice_kernel_map_capacity", "guard_monitor_services"), 16384);
  EXPECT_EQ(running.sample("sluice_kernel_map_insert_failures_total", "guard_monitor_services"), 0);
}

TEST(GuardMonitor, CountsByServiceAndSourceAtTc) {
  in_sandbox([] { counts_by_service_and_source(GuardHook::tc); });
}

TEST(GuardMonitor, CountsByServiceAndSourceAtXdp) {
  in_sandbox([] { counts_by_service_and_source(GuardHook::xdp); });
}

TEST(GuardMonitor, MoreThanItHoldsForgetsAndNeverGrows) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(monitoring(GuardHook::tc));
    Frame frame = syn("10.0.0.0", "203.0.113.1", 443);
    for (unsigned i = 0; i < 40'000; ++i) {
      for (int byte = 0; byte < 3; ++byte)
        frame.from.address[13 + static_cast<std::size_t>(byte)] =
            static_cast<std::uint8_t>(i >> (16 - 8 * byte));
      ASSERT_EQ(running.verdict(frame), kPass);
    }
    EXPECT_LE(running.guard->seen(SeenBy::source).size(), 16384U);
    const auto service = find(running.guard->seen(SeenBy::service), "203.0.113.1", 443);
    ASSERT_TRUE(service);
    EXPECT_EQ(service->connections, 40'000U);
  });
}

TEST(GuardMonitor, OutlivesReloadAndProcess) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(monitoring(GuardHook::tc));
    EXPECT_TRUE(running.guard->seen(SeenBy::service).empty());
    running.verdict(syn("198.51.100.7", "203.0.113.1", 443));
    running.apply(monitoring(GuardHook::tc, {drop("x", to_ports({{23, 23}}))}));
    running.verdict(syn("198.51.100.7", "203.0.113.1", 443));
    running.reopen();
    running.verdict(syn("198.51.100.7", "203.0.113.1", 443));
    const auto service = find(running.guard->seen(SeenBy::service), "203.0.113.1", 443);
    ASSERT_TRUE(service);
    EXPECT_EQ(service->connections, 3U);
    // Not asked for any more: not counted any more.
    running.apply(std::vector<GuardRule>{});
    running.verdict(syn("198.51.100.7", "203.0.113.1", 443));
    EXPECT_EQ(find(running.guard->seen(SeenBy::service), "203.0.113.1", 443)->connections, 3U);
  });
}

}  // namespace
}  // namespace sluice::kernel
