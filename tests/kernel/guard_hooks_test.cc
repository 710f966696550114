// Where the guard hangs: egress, XDP in both modes, and moves from one to the other, on real
// interfaces.
#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include "tests/kernel/far_end.h"
#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

GuardPlan by(GuardHook hook, std::vector<std::string> interfaces = {"near0"}) {
  GuardPlan plan = on(std::move(interfaces), {drop("peer", from({"10.7.0.2"}))});
  plan.hook = hook;
  return plan;
}

bool xdp_is(bool generic) {
  __u32 id = 0;
  return bpf_xdp_query_id(static_cast<int>(if_nametoindex("near0")),
                          generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, &id) == 0 &&
         id != 0;
}

std::string refusal(RunningGuard& running, const GuardPlan& plan) {
  const auto prepared = running.guard->prepare(plan, {}, {});
  EXPECT_TRUE(prepared) << prepared.error().message;
  const auto committed = running.guard->commit(99);
  EXPECT_FALSE(committed);
  running.guard->abandon();
  return committed ? "" : committed.error().message;
}

TEST(GuardHooks, EgressDropsWhatGoesOut) {
  in_sandbox([] {
    const FarEnd far;
    for (const GuardAttach how : {GuardAttach::automatic, GuardAttach::clsact}) {
      PinDirectory pins = std::move(PinDirectory::open(kPinRoot).value());
      auto guard = std::move(Guard::open(pins, how).value());
      GuardRule rule = drop("out", to({"10.7.0.2"}));
      rule.direction = GuardDirection::egress;
      ASSERT_TRUE(guard->prepare(on({"near0"}, {rule}), {}, {}));
      ASSERT_TRUE(guard->commit(1));
      EXPECT_FALSE(far.answers("10.7.0.2"));
      EXPECT_TRUE(far.answers("10.7.0.3"));
      EXPECT_GE(guard->rule_counters()[0].dropped, 1U);
      // No rule looks at what goes out any more: the program leaves.
      rule.direction = GuardDirection::ingress;
      ASSERT_TRUE(guard->prepare(on({"near0"}, {rule}), {}, {}));
      ASSERT_TRUE(guard->commit(2));
      EXPECT_TRUE(far.answers("10.7.0.2"));
      EXPECT_EQ(shell("tc filter show dev near0 egress | grep -c guard_egress || true"), "0\n");
      guard->remove();
    }
  });
}

TEST(GuardHooks, XdpInTheDriverAndGeneric) {
  in_sandbox([] {
    const FarEnd far;
    RunningGuard running;
    for (const GuardHook hook : {GuardHook::xdp, GuardHook::xdp_generic, GuardHook::xdp}) {
      running.apply(by(hook));
      EXPECT_TRUE(xdp_is(hook == GuardHook::xdp_generic));
      EXPECT_FALSE(xdp_is(hook != GuardHook::xdp_generic));
      EXPECT_FALSE(far.answers("10.7.0.2"));
      EXPECT_TRUE(far.answers("10.7.0.3"));
      EXPECT_TRUE(far.answers("2001:db8:7::2", "2001:db8:7::1"));
    }
    EXPECT_GE(running.packets("peer"), 3U);
  });
}

TEST(GuardHooks, FromTcToXdpAndBackWithoutALeak) {
  in_sandbox([] {
    const FarEnd far;
    RunningGuard running;
    for (const GuardHook hook : {GuardHook::tc, GuardHook::xdp, GuardHook::tc}) {
      running.apply(by(hook));
      EXPECT_FALSE(far.answers("10.7.0.2"));
      EXPECT_EQ(xdp_is(false), hook == GuardHook::xdp);
      const bool linked = hook == GuardHook::xdp || kernel_has_tcx();  // filters have no link
      EXPECT_EQ(shell("find " + std::string(kPinRoot) + " -name 'guard_link_*' | wc -l"),
                linked ? "1\n" : "0\n");
    }
    running.guard->remove();
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

TEST(GuardHooks, XdpOutlivesTheProcessAndIsTakenOver) {
  in_sandbox([] {
    const FarEnd far;
    {
      RunningGuard running;
      running.apply(by(GuardHook::xdp_generic));
    }
    EXPECT_FALSE(far.answers("10.7.0.2"));
    RunningGuard successor;
    EXPECT_EQ(successor.guard->attached(), std::vector<std::string>{"near0"});
    EXPECT_FALSE(far.answers("10.7.0.2"));
    successor.apply(by(GuardHook::xdp_generic));
    EXPECT_TRUE(xdp_is(true));
    successor.guard.reset();
    EXPECT_FALSE(Guard::cleanup(kPinRoot).empty());
    EXPECT_FALSE(xdp_is(true));
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

TEST(GuardHooks, AnothersXdpProgramIsNeverReplaced) {
  in_sandbox([] {
    const FarEnd far;
    const bpf_insn pass[] = {
        {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    const Descriptor other(bpf_prog_load(BPF_PROG_TYPE_XDP, "neighbour", "GPL", pass, 2, nullptr));
    ASSERT_TRUE(other);
    const int index = static_cast<int>(if_nametoindex("near0"));
    RunningGuard running;
    for (const auto flags : {XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE}) {
      ASSERT_EQ(bpf_xdp_attach(index, other.get(), flags, nullptr), 0);
      for (const GuardHook hook : {GuardHook::xdp, GuardHook::xdp_generic}) {
        const std::string why = refusal(running, by(hook));
        EXPECT_NE(why.find("near0"), std::string::npos) << why;
        EXPECT_NE(why.find("another XDP program"), std::string::npos) << why;
      }
      __u32 id = 0;
      ASSERT_EQ(bpf_xdp_query_id(index, static_cast<int>(flags), &id), 0);
      EXPECT_NE(id, 0U);
      ASSERT_EQ(bpf_xdp_detach(index, flags, nullptr), 0);
    }
    EXPECT_EQ(running.guard->generation(), 0U);
    EXPECT_TRUE(far.answers("10.7.0.2"));
    running.apply(by(GuardHook::xdp));
    EXPECT_FALSE(far.answers("10.7.0.2"));
  });
}

TEST(GuardHooks, XdpWhereItCannotBeIsRefused) {
  in_sandbox([] {
    RunningGuard running;
    // A tunnel has no Ethernet frames.
    shell("ip tuntap add mode tun tunnel0; ip link set tunnel0 up");
    std::string why = refusal(running, by(GuardHook::xdp_generic, {"tunnel0"}));
    EXPECT_NE(why.find("no Ethernet"), std::string::npos) << why;
    // A bridge has no XDP of its own, and gets no other mode instead.
    shell("ip link add bridge0 type bridge; ip link set bridge0 up");
    why = refusal(running, by(GuardHook::xdp, {"bridge0"}));
    EXPECT_NE(why.find("xdp-generic"), std::string::npos) << why;
    EXPECT_TRUE(running.guard->attached().empty());
    running.apply(by(GuardHook::xdp_generic, {"bridge0"}));
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"bridge0"});
  });
}

TEST(GuardHooks, OneInterfaceThatCannotDoesNotKeepTheOthersOpen) {
  in_sandbox([] {
    const FarEnd far;
    RunningGuard running;
    running.apply(by(GuardHook::xdp_generic, {"near*", "tunnel*"}));
    shell("ip link del near0; ip tuntap add mode tun tunnel0");
    far.plug();
    const auto done = running.guard->tick();
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().message.find("tunnel0"), std::string::npos) << done.error().message;
    EXPECT_FALSE(far.answers("10.7.0.2"));
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"near0"});
  });
}

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

std::vector<std::uint32_t> chain() {
  std::array<__u32, 16> ids{};
  __u32 count = ids.size();
  if (bpf_prog_query(static_cast<int>(if_nametoindex("near0")), kTcxIngress, 0, nullptr, ids.data(),
                     &count) != 0)
    return {};
  return {ids.begin(), ids.begin() + count};
}

TEST(GuardHooks, ThePositionFollowsAReload) {
  if (!kernel_has_tcx()) GTEST_SKIP() << "no tcx; ThePositionOfAFilterFollowsAReload holds the same";
  in_sandbox([] {
    const FarEnd far;
    const bpf_insn pass[] = {
        {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = -1},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    const Descriptor other(
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "neighbour", "GPL", pass, 2, nullptr));
    const Descriptor link(bpf_link_create(other.get(), static_cast<int>(if_nametoindex("near0")),
                                          kTcxIngress, nullptr));
    ASSERT_TRUE(link);
    const std::uint32_t neighbour = chain().at(0);
    RunningGuard running;
    const auto stands = [&](bool first) {
      const auto ids = chain();
      ASSERT_EQ(ids.size(), 2U);
      EXPECT_EQ(ids[first ? 1 : 0], neighbour);
    };
    for (const bool first : {true, false, true, true, false}) {
      GuardPlan plan = by(GuardHook::tc);
      plan.first = first;
      running.apply(plan);
      stands(first);
      EXPECT_FALSE(far.answers("10.7.0.2"));
    }
    // The next keeper finds out where it stands.
    running.reopen();
    stands(false);
    running.apply(by(GuardHook::tc));
    stands(true);
    EXPECT_FALSE(far.answers("10.7.0.2"));
    running.guard->remove();
    EXPECT_EQ(chain(), std::vector{neighbour});
  });
}

TEST(GuardHooks, ThePositionOfAFilterFollowsAReload) {
  in_sandbox([] {
    const FarEnd far;
    PinDirectory pins = std::move(PinDirectory::open(kPinRoot).value());
    auto guard = std::move(Guard::open(pins, GuardAttach::clsact).value());
    const auto apply = [&](bool first) {
      GuardPlan plan = by(GuardHook::tc);
      plan.first = first;
      ASSERT_TRUE(guard->prepare(plan, {}, {}));
      ASSERT_TRUE(guard->commit(1));
      EXPECT_FALSE(far.answers("10.7.0.2"));
      const std::string filters = shell("tc filter show dev near0 ingress");
      EXPECT_EQ(filters.find("pref 1 ") != std::string::npos, first) << filters;
      EXPECT_EQ(filters.find("pref 65534 ") != std::string::npos, !first) << filters;
    };
    apply(true);
    apply(false);
    apply(true);
    apply(false);
    guard.reset();
    guard = std::move(Guard::open(pins, GuardAttach::clsact).value());
    EXPECT_EQ(guard->attached(), std::vector<std::string>{"near0"});
    apply(true);
    guard->remove();
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

}  // namespace
}  // namespace sluice::kernel
