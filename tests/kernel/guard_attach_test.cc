// The guard on real interfaces: veth pairs between network namespaces, real packets.
#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kernel/far_end.h"
#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

TEST(GuardAttach, DropsRealPacketsAndLeavesOthersAlone) {
  in_sandbox([] {
    const FarEnd far;
    RunningGuard running;
    EXPECT_TRUE(far.answers("10.7.0.2"));
    running.apply(on({"near*"}, {drop("peer", from({"10.7.0.2"}))}));
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"near0"});
    EXPECT_FALSE(far.answers("10.7.0.2"));
    EXPECT_TRUE(far.answers("10.7.0.3"));
    EXPECT_TRUE(far.answers("2001:db8:7::2", "2001:db8:7::1"));
    EXPECT_GE(running.packets("peer"), 1U);
    running.apply(on({"near*"}, {}));
    tick(running);
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

// Somebody else's: passes everything on.
Descriptor passing_program() {
  const bpf_insn instructions[] = {
      {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = -1},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  Descriptor program(
      bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "neighbour", "GPL", instructions, 2, nullptr));
  EXPECT_TRUE(program);
  return program;
}

// As a clsact filter of the near end, made with a clsact qdisc of its own.
void add_filter(const Descriptor& program, std::uint32_t handle, std::uint32_t priority) {
  shell("tc qdisc add dev near0 clsact");
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(if_nametoindex("near0"));
  hook.attach_point = BPF_TC_INGRESS;
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program.get(), .handle = handle,
              .priority = priority);
  ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
}
std::string filters() {
  return shell("tc filter show dev near0 ingress");
}

// In the tcx chain.
class Neighbour {
 public:
  explicit Neighbour(const std::string& interface) : program_(passing_program()) {
    link_ = Descriptor(bpf_link_create(
        program_.get(), static_cast<int>(if_nametoindex(interface.c_str())), kTcxIngress, nullptr));
    EXPECT_TRUE(link_);
  }
  bool attached() const {
    bpf_link_info info{};
    __u32 length = sizeof(info);
    return bpf_obj_get_info_by_fd(link_.get(), &info, &length) == 0 && info.xdp.ifindex != 0;
  }
  std::uint32_t id() const {
    bpf_prog_info info{};
    __u32 length = sizeof(info);
    bpf_obj_get_info_by_fd(program_.get(), &info, &length);
    return info.id;
  }

 private:
  Descriptor program_;
  Descriptor link_;
};

std::vector<std::uint32_t> chain(const std::string& interface) {
  std::array<__u32, 16> ids{};
  __u32 count = ids.size();
  if (bpf_prog_query(static_cast<int>(if_nametoindex(interface.c_str())), kTcxIngress, 0, nullptr,
                     ids.data(), &count) != 0) {
    return {};
  }
  return {ids.begin(), ids.begin() + count};
}

// The ids of what stands at the ingress of near0, by either way.
std::string standing() {
  std::string ids;
  for (const std::uint32_t id : chain("near0"))
    ids += std::to_string(id) + "\n";
  return ids + shell("tc filter show dev near0 ingress | grep -o ' id [0-9]*' || true");
}

std::vector<GuardRule> no_peer() {
  return {drop("peer", from({"10.7.0.2"}))};
}

TEST(GuardAttach, TheLoopbackOnlyByItsName) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(on({"*"}, {}));
    for (const std::string& name : running.guard->attached())
      EXPECT_NE(name, "lo");
    running.apply(on({"lo"}, {drop("port", to_ports({{9999, 9999}}))}));
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"lo"});
    EXPECT_EQ(shell("bash -c 'echo x > /dev/udp/127.0.0.1/9999'"), "");
    for (int i = 0; i < 500 && running.packets("port") == 0; ++i)
      ::usleep(10'000);
    EXPECT_EQ(running.packets("port"), 1U);
  });
}

TEST(GuardAttach, StandsWhereThePolicySaysAndLeavesTheNeighbourAlone) {
  if (!kernel_has_tcx()) GTEST_SKIP() << "no tcx; ClsactBesideOthersFilters holds what there is";
  in_sandbox([] {
    const FarEnd far;
    const Neighbour neighbour("near0");
    RunningGuard running;
    running.apply(on({"near0"}, no_peer()));
    ASSERT_EQ(chain("near0").size(), 2U);
    EXPECT_EQ(chain("near0")[1], neighbour.id());  // position: first
    EXPECT_FALSE(far.answers("10.7.0.2"));
    running.apply(on({}, {}));
    running.apply(on({"nothing"}, {}));
    EXPECT_EQ(chain("near0"), std::vector{neighbour.id()});
    GuardPlan last = on({"near0"}, no_peer());
    last.first = false;
    running.apply(last);
    ASSERT_EQ(chain("near0").size(), 2U);
    EXPECT_EQ(chain("near0")[0], neighbour.id());
    EXPECT_FALSE(far.answers("10.7.0.2"));
    running.guard->remove();
    EXPECT_EQ(chain("near0"), std::vector{neighbour.id()});
    EXPECT_TRUE(neighbour.attached());
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

TEST(GuardAttach, FollowsInterfacesThatGoComeAndAreRenamed) {
  in_sandbox([] {
    const FarEnd far;
    RunningGuard running;
    running.apply(on({"near0", "other*"}, no_peer()));
    EXPECT_FALSE(far.answers("10.7.0.2"));
    shell("ip link del near0");
    tick(running);
    EXPECT_TRUE(running.guard->attached().empty());
    far.plug();
    EXPECT_TRUE(far.answers_soon("10.7.0.2"));
    tick(running);
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"near0"});
    EXPECT_FALSE(far.answers("10.7.0.2"));
    shell("ip link set near0 down; ip link set near0 name unnamed0; ip link set unnamed0 up");
    tick(running);
    EXPECT_TRUE(running.guard->attached().empty());
    EXPECT_TRUE(far.answers("10.7.0.2"));
    shell("ip link set unnamed0 down; ip link set unnamed0 name other7; ip link set other7 up");
    tick(running);
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"other7"});
    EXPECT_FALSE(far.answers("10.7.0.2"));
  });
}

TEST(GuardAttach, ANewInterfaceIsAnnounced) {
  in_sandbox([] {
    RunningGuard running;
    running.apply(on({"late0"}, {}));
    pollfd changes{running.guard->change_fd(), POLLIN, 0};
    tick(running);
    EXPECT_EQ(::poll(&changes, 1, 0), 0);
    shell("ip link add late0 type veth peer name late1");
    EXPECT_EQ(::poll(&changes, 1, 10'000), 1);
    tick(running);
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"late0"});
  });
}

TEST(GuardAttach, AutoMeansThoseWithADefaultRoute) {
  in_sandbox([] {
    shell(
        "ip link add a0 type veth peer name a1; ip link add b0 type veth peer name b1; for i in a0 "
        "a1 b0; do ip link set $i up; "
        "done; ip addr add 10.20.0.5/24 dev a0; ip addr add 2001:db8:20::5/64 nodad dev b0");
    RunningGuard running;
    running.apply(on({}, {}));
    EXPECT_EQ(running.guard->attached(),
              (std::vector<std::string>{"a1", "a0", "b0"}));  // no default route: all that are up
    shell("ip route add default via 10.20.0.1");
    tick(running);
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"a0"});
    shell("ip link set b1 up; ip -6 route add default via 2001:db8:20::1 dev b0");
    tick(running);
    EXPECT_EQ(running.guard->attached(), (std::vector<std::string>{"a0", "b0"}));
    shell("ip route del default");
    tick(running);
    EXPECT_EQ(running.guard->attached(), std::vector<std::string>{"b0"});
  });
}

TEST(GuardAttach, StaysInForceWithoutAProcessAndIsTakenOver) {
  in_sandbox([] {
    const FarEnd far;
    {
      RunningGuard running;
      running.apply(on({"near0"}, no_peer()));
    }
    EXPECT_FALSE(far.answers("10.7.0.2"));
    EXPECT_TRUE(far.answers("10.7.0.3"));
    const auto before = standing();
    EXPECT_EQ(std::ranges::count(before, '\n'), 1);
    RunningGuard successor;
    EXPECT_EQ(std::ranges::count(standing(), '\n'), 1);
    EXPECT_NE(standing(), before);  // the new program, in the same place
    EXPECT_FALSE(far.answers("10.7.0.2"));
    EXPECT_EQ(successor.guard->attached(), std::vector<std::string>{"near0"});
    EXPECT_GE(successor.packets("peer"), 2U);
    successor.apply(on({"near0"}, {}));
    EXPECT_EQ(std::ranges::count(standing(), '\n'), 1);
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

TEST(GuardAttach, LinksOfInterfacesThatWentWithoutUsAreRemoved) {
  if (!kernel_has_tcx()) GTEST_SKIP() << "no tcx; a filter goes with its interface";
  in_sandbox([] {
    const FarEnd far;
    const auto pinned = [] {
      return shell("find " + std::string(kPinRoot) + " -name 'guard_link_*' | wc -l");
    };
    {
      RunningGuard running;
      running.apply(on({"near0"}, no_peer()));
    }
    EXPECT_EQ(pinned(), "1\n");
    shell("ip link del near0");
    RunningGuard successor;
    EXPECT_EQ(pinned(), "0\n");
    EXPECT_TRUE(successor.guard->attached().empty());
  });
}

TEST(GuardAttach, WhatSomebodyTookAwayComesBack) {
  in_sandbox([] {
    const FarEnd far;
    RunningGuard running;
    running.apply(on({"near0"}, no_peer()));
    if (kernel_has_tcx()) {
      const Descriptor link =
          running.pins.get("guard_link_ingress_" + std::to_string(if_nametoindex("near0")));
      ASSERT_EQ(bpf_link_detach(link.get()), 0);
    } else {
      shell("tc filter del dev near0 ingress");
    }
    EXPECT_TRUE(far.answers("10.7.0.2"));
    tick(running);
    EXPECT_FALSE(far.answers("10.7.0.2"));
  });
}

TEST(GuardAttach, ClsactBesideOthersFilters) {
  in_sandbox([] {
    const FarEnd far;
    add_filter(passing_program(), 1, 7);
    const std::string others = filters();
    EXPECT_NE(others.find("neighbour"), std::string::npos);
    PinDirectory pins = std::move(PinDirectory::open(kPinRoot).value());
    auto guard = std::move(Guard::open(pins, GuardAttach::clsact).value());
    ASSERT_TRUE(guard->prepare(on({"near0"}, no_peer()), {}, {}));
    ASSERT_TRUE(guard->commit(1));
    EXPECT_TRUE(chain("near0").empty());
    EXPECT_FALSE(far.answers("10.7.0.2"));
    EXPECT_TRUE(far.answers("10.7.0.3"));
    // The next keeper finds and replaces our filter, and nothing else.
    guard.reset();
    EXPECT_FALSE(far.answers("10.7.0.2"));
    guard = std::move(Guard::open(pins, GuardAttach::clsact).value());
    EXPECT_EQ(guard->attached(), std::vector<std::string>{"near0"});
    EXPECT_EQ(shell("tc filter show dev near0 ingress | grep -c guard_ingress"), "1\n");
    EXPECT_FALSE(far.answers("10.7.0.2"));
    guard->remove();
    EXPECT_EQ(filters(), others);
    EXPECT_TRUE(far.answers("10.7.0.2"));
  });
}

TEST(GuardAttach, ClsactRefusesAFilterThatIsNotOurs) {
  in_sandbox([] {
    const FarEnd far;
    PinDirectory pins = std::move(PinDirectory::open(kPinRoot).value());
    auto guard = std::move(Guard::open(pins, GuardAttach::clsact).value());
    add_filter(passing_program(), 0x51c, 1);
    ASSERT_TRUE(guard->prepare(on({"near0"}, no_peer()), {}, {}));
    const auto refused = guard->commit(1);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("near0"), std::string::npos) << refused.error().message;
    EXPECT_EQ(guard->generation(), 0U);
    EXPECT_NE(filters().find("neighbour"), std::string::npos);
  });
}

TEST(GuardAttach, CleanupWithoutAKeeper) {
  in_sandbox([] {
    const FarEnd far;
    {
      RunningGuard running;
      running.apply(on({"near0"}, no_peer()));
    }
    EXPECT_FALSE(far.answers("10.7.0.2"));
    const auto removed = Guard::cleanup(kPinRoot);
    EXPECT_NE(std::ranges::find(removed, "guard of near0"), removed.end());
    EXPECT_TRUE(far.answers("10.7.0.2"));
    EXPECT_TRUE(chain("near0").empty());
    EXPECT_TRUE(Guard::cleanup(kPinRoot).empty());
  });
}

// Onto the wire as it is: what a peer would send.
void send_raw(const std::string& interface, const std::vector<std::uint8_t>& bytes) {
  const Descriptor socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  ASSERT_EQ(::sendto(socket.get(), bytes.data(), bytes.size(), 0,
                     reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
            static_cast<ssize_t>(bytes.size()));
}

// On a real interface the stack has moved the outermost tag from the frame into the buffer before
// the guard runs.
TEST(GuardAttach, VlanTagsInTheBufferAndInTheFrame) {
  in_sandbox([] {
    shell(
        "ip link add wire0 type veth peer name wire1; ip link set wire0 up; ip link set wire1 up");
    RunningGuard running;
    running.apply(
        on({"wire0"}, {drop("r", from({"198.51.100.7", "2001:db8::7"}) & to_ports({{80, 80}}))}));
    std::uint64_t expected = 0;
    for (Frame frame :
         {tcp("198.51.100.7", "10.0.0.1", 80), tcp("2001:db8::7", "2001:db8::1", 80)}) {
      for (const std::size_t tags : {3U, 2U, 1U, 0U}) {
        frame.vlan_types.assign(tags, 0x8100);
        send_raw("wire1", frame.bytes());
        if (tags <= 2) ++expected;
      }
    }
    // veth delivers in a softirq, soon: wait for the last drop, then see that there are no more.
    for (int i = 0; i < 500 && running.packets("r") < expected; ++i)
      ::usleep(10'000);
    EXPECT_EQ(running.packets("r"), expected);
    EXPECT_EQ(running.sample("sluice_guard_packets_total", "rule"), static_cast<double>(expected));
  });
}

// A packet socket, or a VLAN on a VLAN, has given it its network header before the tags.
TEST(GuardAttach, VlanTagsInTheFrameOfWhatGoesOut) {
  in_sandbox([] {
    shell(
        "ip link add wire0 type veth peer name wire1; ip link set wire0 up; ip link set wire1 up");
    RunningGuard running;
    GuardRule rule = count("r", from({"198.51.100.7", "2001:db8::7"}) & to_ports({{80, 80}}));
    rule.direction = GuardDirection::egress;
    running.apply(on({"wire0"}, {rule}));
    for (Frame frame :
         {tcp("198.51.100.7", "10.0.0.1", 80), tcp("2001:db8::7", "2001:db8::1", 80)}) {
      for (const std::size_t tags : {2U, 1U, 0U}) {
        frame.vlan_types.assign(tags, 0x8100);
        send_raw("wire0", frame.bytes());
      }
    }
    EXPECT_EQ(running.packets("r"), 6U);
  });
}

}  // namespace
}  // namespace sluice::kernel
