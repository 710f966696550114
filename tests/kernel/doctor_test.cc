// Each trouble is made in a network namespace, and doctor must name it and say what to do; and must
// not name it where it is not.
#include "kernel/doctor.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <map>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/pins.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary
using ::testing::HasSubstr;
using Level = Finding::Level;

DoctorOptions forwarding() {
  DoctorOptions options;
  options.pin_root = kPinRoot;
  options.plan = plan_with({"web"});
  options.plan.intercepts.push_back(entry(WayIn::forward, {"0.0.0.0/0"}, {{80, 80}}, 0));
  options.cni_directory = "/nonexistent";
  return options;
}

// The worst of a check; `good` when it said nothing.
Finding worst(const std::vector<Finding>& findings, const std::string& check) {
  Finding found{check, Level::good, "", ""};
  for (const Finding& finding : findings) {
    if (finding.check == check && finding.level >= found.level) found = finding;
  }
  return found;
}

void expect_trouble(const Finding& finding, Level level, const std::string& what) {
  EXPECT_EQ(static_cast<int>(finding.level), static_cast<int>(level)) << finding.what;
  EXPECT_THAT(finding.what, HasSubstr(what));
  EXPECT_FALSE(finding.advice.empty()) << finding.check << " does not say what to do";
}

void set_sysctl(const std::string& name, const std::string& value) {
  std::ofstream("/proc/sys/net/" + name) << value;
}

TEST(Doctor, SysctlsThatBite) {
  in_sandbox([] {
    shell("ip link add w0 type veth peer name w1 && ip link set w0 up");
    for (const char* name : {"all", "default", "w0", "w1"})
      set_sysctl("ipv4/conf/" + std::string(name) + "/rp_filter", "0");
    set_sysctl("ipv4/ip_forward", "1");
    set_sysctl("ipv4/tcp_syncookies", "2");
    const DoctorOptions options = forwarding();
    auto found = examine_sysctls(options);
    for (const char* check :
         {"rp_filter", "src_valid_mark", "ip_forward", "tcp_syncookies", "fwmark"}) {
      // Before Linux 6.6 answers to cookies of forwarded connections are lost: a note, at the best.
      const bool noted = std::string(check) == "tcp_syncookies" && !kernel_has_tcx();
      EXPECT_EQ(static_cast<int>(worst(found, check).level), noted ? 1 : 0)
          << check << worst(found, check).what;
    }

    set_sysctl("ipv4/conf/w0/rp_filter", "1");
    set_sysctl("ipv4/conf/w1/src_valid_mark", "1");
    set_sysctl("ipv4/ip_forward", "0");
    set_sysctl("ipv4/tcp_syncookies", "0");
    set_sysctl("ipv4/fwmark_reflect", "1");
    found = examine_sysctls(options);
    expect_trouble(worst(found, "rp_filter"), Level::warning, "strict (1) on w0:");
    expect_trouble(worst(found, "src_valid_mark"), Level::note, "set on w1 ");
    expect_trouble(worst(found, "ip_forward"), Level::problem, "IPv4 not forwarded");
    expect_trouble(worst(found, "tcp_syncookies"), Level::warning, "off");
    expect_trouble(worst(found, "fwmark"), Level::warning, "fwmark_reflect=1");
  });
}

// Not to be set in a namespace of one's own: the files are made.
TEST(Doctor, BridgesAndAFullConnectionTable) {
  in_sandbox([] {
    const std::string root = "/tmp/.sluice-test-bpf-sys";
    shell("mkdir -p " + root + " && mount -t tmpfs none " + root);
    DoctorOptions options = forwarding();
    options.proc_sys = root;
    EXPECT_EQ(static_cast<int>(worst(examine_sysctls(options), "br_netfilter").level), 0);
    EXPECT_EQ(static_cast<int>(worst(examine_sysctls(options), "conntrack").level), 0);
    shell("cd " + root +
          " && mkdir -p net/bridge net/netfilter && "
          "echo 1 > net/bridge/bridge-nf-call-iptables && "
          "echo 900 > net/netfilter/nf_conntrack_count && "
          "echo 1000 > net/netfilter/nf_conntrack_max");
    const auto found = examine_sysctls(options);
    expect_trouble(worst(found, "br_netfilter"), Level::warning, "bridged frames");
    expect_trouble(worst(found, "conntrack"), Level::warning, "900 of 1000");
  });
}

TEST(Doctor, WhatAKilledProxyLeavesInTheWayOfABypass) {
  in_sandbox([] {
    DoctorOptions options = forwarding();
    EXPECT_EQ(static_cast<int>(worst(examine_early_demux(options), "early_demux").level), 0)
        << "closed: nothing flows straight";
    options.plan.intercepts[0].on_exit = OnExit::bypass;
    const auto found = worst(examine_early_demux(options), "early_demux");
    expect_trouble(found, Level::note, "kill -9");
    EXPECT_THAT(found.advice, HasSubstr("net.ipv4.tcp_early_demux=0"));
    set_sysctl("ipv4/tcp_early_demux", "0");
    EXPECT_EQ(static_cast<int>(worst(examine_early_demux(options), "early_demux").level), 0);
  });
}

TEST(Doctor, OthersWhoRouteByOurMarks) {
  in_sandbox([] {
    const DoctorOptions options = forwarding();
    shell("ip rule add pref 200 fwmark 0x4000/0x4000 lookup 88");  // no bit of ours
    EXPECT_EQ(static_cast<int>(worst(examine_marks(options), "marks").level), 0)
        << worst(examine_marks(options), "marks").what;
    shell("ip rule add pref 201 fwmark 0x200000/0xffff0000 lookup 77");
    expect_trouble(worst(examine_marks(options), "marks"), Level::problem,
                   "ip rule pref 201 fwmark 0x200000/0xffff0000 lookup 77");
    shell("ip rule del pref 201 && ip -6 rule add pref 300 lookup 5177");
    expect_trouble(worst(examine_marks(options), "marks"), Level::problem,
                   "routing table 5177: ip -6 rule pref 300");
    shell("ip -6 rule del pref 300 && ip rule add pref 5178 lookup 88");
    expect_trouble(worst(examine_marks(options), "marks"), Level::problem, "(5177 and 5178): ip");
    auto keeper = open_keeper();
    EXPECT_FALSE(keeper->prepare(options.plan)) << "what doctor calls a problem is refused";
  });
}

// Also those without a mark, of `source_address: client`.
TEST(Doctor, OwnRulesAreNoTrouble) {
  in_sandbox([] {
    DoctorOptions options = forwarding();
    options.plan.client_source = true;
    auto keeper = open_keeper();
    put_in_force(*keeper, options.plan);
    EXPECT_THAT(shell("ip rule"), HasSubstr("from 127.0.0.0/8 iif lo lookup 5177"));
    const Finding found = worst(examine_marks(options), "marks");
    EXPECT_EQ(static_cast<int>(found.level), 0) << found.what;
  });
}

TEST(Doctor, LinksAndPlugins) {
  in_sandbox([] {
    shell(
        "ip link add w0 mtu 1500 type veth peer name w1 mtu 9000 && "
        "ip link set w0 up && ip link set w1 up");
    DoctorOptions options = forwarding();
    auto found = examine_links(options);
    EXPECT_EQ(static_cast<int>(worst(found, "lo").level), 0);
    EXPECT_EQ(static_cast<int>(worst(found, "cni").level), 0);
    expect_trouble(worst(found, "mtu"), Level::note, "w1 9000");
    options.plan.guard.enabled = true;
    options.plan.guard.hook = GuardHook::xdp;
    options.plan.guard.interfaces = {"w*"};
    expect_trouble(worst(examine_links(options), "mtu"), Level::warning, "jumbo frames");

    shell("ip link set lo down && ip link add cali123 type veth peer name cali124");
    shell("ip tuntap add dev t0 mode tun && ip link set t0 up");
    options.plan.guard.interfaces = {"t0"};
    found = examine_links(options);
    expect_trouble(worst(found, "lo"), Level::problem, "down");
    expect_trouble(worst(found, "cni"), Level::warning, "Calico");
    expect_trouble(worst(found, "guard_interfaces"), Level::problem, "t0: no Ethernet");
    options.plan.guard.interfaces = {"nothing*"};
    expect_trouble(worst(examine_links(options), "guard_interfaces"), Level::warning, "names none");
  });
}

TEST(Doctor, PluginsAreKnownByTheirInterfacesAlone) {
  in_sandbox([] {
    const DoctorOptions options = forwarding();  // no directory of CNI, as in the pod
    for (const auto& [interface, plugin] :
         std::map<std::string, std::string>{{"cilium_host", "Cilium "},
                                            {"cali1", "Calico "},
                                            {"flannel.1", "flannel "},
                                            {"antrea-gw0", "Antrea "},
                                            {"ovn-k8s-mp0", "OVN-Kubernetes "},
                                            {"ovn0", "Kube-OVN "}}) {
      shell("ip link add " + interface + " type veth peer name peer");
      const Finding found = worst(examine_links(options), "cni");
      expect_trouble(found, Level::warning, plugin + "runs on this node");
      shell("ip link del " + interface);
    }
    shell("ip link add br-int type bridge");
    EXPECT_EQ(static_cast<int>(worst(examine_links(options), "cni").level), 0)
        << "other users of Open vSwitch have one, too";
  });
}

// r0 = verdict; exit
Descriptor load(bpf_prog_type type, int verdict, const char* name,
                bpf_attach_type expected = BPF_CGROUP_INET_INGRESS) {
  const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, verdict},
                           {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  if (type == BPF_PROG_TYPE_SK_LOOKUP) options.expected_attach_type = expected;
  Descriptor program(bpf_prog_load(type, name, "GPL", code, 2, &options));
  EXPECT_TRUE(program) << std::strerror(errno);
  return program;
}

TEST(Doctor, OtherProgramsInTheirOrder) {
  in_sandbox([] {
    shell("ip link add w0 type veth peer name w1 && ip link set w0 up && ip link set w1 up");
    const int w0 = static_cast<int>(::if_nametoindex("w0"));
    DoctorOptions options = forwarding();
    options.plan.guard.enabled = true;
    auto found = examine_programs(options);
    for (const Finding& finding : found)
      EXPECT_EQ(static_cast<int>(finding.level), 0) << finding.what;

    const Descriptor xdp = load(BPF_PROG_TYPE_XDP, XDP_PASS, "their_xdp");
    const Descriptor xdp_link(bpf_link_create(xdp.get(), w0, BPF_XDP, nullptr));
    ASSERT_TRUE(xdp_link) << std::strerror(errno);
    const Descriptor tc = load(BPF_PROG_TYPE_SCHED_CLS, 0, "their_tc");
    const Descriptor tc_link(
        bpf_link_create(tc.get(), w0, static_cast<bpf_attach_type>(46), nullptr));
    const bool tcx = static_cast<bool>(tc_link);  // Linux 6.6
    if (!tcx) {
      shell("tc qdisc add dev w0 clsact");
      LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = w0, .attach_point = BPF_TC_INGRESS);
      LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = tc.get());
      ASSERT_EQ(bpf_tc_attach(&hook, &opts), 0);
    }
    const Descriptor lookup = load(BPF_PROG_TYPE_SK_LOOKUP, SK_PASS, "their_lookup", BPF_SK_LOOKUP);
    const Descriptor netns(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    const Descriptor lookup_link(
        bpf_link_create(lookup.get(), netns.get(), BPF_SK_LOOKUP, nullptr));
    ASSERT_TRUE(lookup_link) << std::strerror(errno);

    found = examine_programs(options);
    EXPECT_THAT(worst(found, "xdp_programs").what, HasSubstr("w0: their_xdp id "));
    EXPECT_EQ(static_cast<int>(worst(found, "xdp_programs").level), static_cast<int>(Level::note));
    EXPECT_THAT(worst(found, "tc_programs").what, HasSubstr("w0 ingress: their_tc"));
    expect_trouble(worst(found, "sk_lookup_programs"), Level::warning, "their_lookup id ");
    if (tcx) expect_trouble(worst(found, "tc_programs"), Level::warning, "their_tc");
    options.plan.guard.hook = GuardHook::xdp;
    expect_trouble(worst(examine_programs(options), "xdp_programs"), Level::problem, "their_xdp");
  });
}

void give_up_sys_admin() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  ASSERT_EQ(::syscall(SYS_capget, &header, data), 0);
  data[0].effective &= ~(1U << CAP_SYS_ADMIN);
  ASSERT_EQ(::syscall(SYS_capset, &header, data), 0);
}

// As in a pod, where names of programs may not be asked: every finding that is not good.
std::string troubles_with_programs(const DoctorOptions& options) {
  std::string text;
  for (const auto& findings : {examine_programs(options), examine_bypasses(options)}) {
    for (const Finding& finding : findings) {
      if (finding.level != Level::good) text += finding.check + ": " + finding.what + "\n";
    }
  }
  return text;
}

// Forwarded connections are steered, and the guard hangs both ways.
DoctorOptions guarded_by(GuardHook hook) {
  DoctorOptions options = forwarding();
  options.plan.guard.enabled = true;
  options.plan.guard.hook = hook;
  options.plan.guard.interfaces = {"lxc0", "cilium_host"};
  GuardRule& rule = options.plan.guard.rules.emplace_back();
  rule.name = "out";
  rule.direction = GuardDirection::egress;
  rule.action = GuardAction::count;
  return options;
}

TEST(Doctor, OwnProgramsAreKnownWithoutTheirNames) {
  for (const GuardHook hook : {GuardHook::tc, GuardHook::xdp_generic}) {
    in_sandbox([hook] {
      shell(
          "for i in lxc0 cilium_host; do ip link add $i type veth peer name p$i && "
          "ip link set $i up && ip link set p$i up; done");
      const DoctorOptions options = guarded_by(hook);
      auto keeper = open_keeper();
      put_in_force(*keeper, options.plan);
      give_up_sys_admin();
      keeper->tick(true);
      EXPECT_THAT(keeper->warnings(), ::testing::IsEmpty());
      EXPECT_EQ(troubles_with_programs(options), "");
      if (!kernel_has_tcx()) return;
      const Descriptor tc = load(BPF_PROG_TYPE_SCHED_CLS, 0, "their_tc");
      const Descriptor tc_link(bpf_link_create(tc.get(), static_cast<int>(::if_nametoindex("lxc0")),
                                               static_cast<bpf_attach_type>(46), nullptr));
      ASSERT_TRUE(tc_link) << std::strerror(errno);
      EXPECT_THAT(
          troubles_with_programs(options),
          ::testing::AllOf(HasSubstr("tc_programs: lxc0 ingress: id "),
                           HasSubstr(" (Sluice) > id "), HasSubstr("Cilium: program at lxc0")));
    });
  }
}

TEST(Doctor, WhatThisProcessMayDo) {
  in_sandbox([] {
    DoctorOptions options = forwarding();
    auto found = examine_machine(options);
    EXPECT_EQ(static_cast<int>(worst(found, "capabilities").level), 0);
    EXPECT_EQ(static_cast<int>(worst(found, "bpffs").level), 0) << worst(found, "bpffs").what;
    const rlimit few{.rlim_cur = 1024, .rlim_max = 1024};
    ::setrlimit(RLIMIT_NOFILE, &few);
    options.pin_root = "/tmp/sluice";
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {};
    ASSERT_EQ(::syscall(SYS_capset, &header, data), 0);
    found = examine_machine(options);
    expect_trouble(worst(found, "capabilities"), Level::problem, "missing: CAP_NET_ADMIN, CAP_BPF");
    expect_trouble(worst(found, "bpffs"), Level::problem, "/tmp is no BPF file system");
    expect_trouble(worst(found, "descriptors"), Level::warning, "at most 1024");
  });
}

}  // namespace
}  // namespace sluice::kernel
