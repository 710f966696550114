// Interfaces, and who else configures them.
#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <utility>

#include "kernel/doctor_read.h"
#include "kernel/interfaces.h"
#include "kernel/message.h"
#include "kernel/pins.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;

int mtu_of(const std::string& name) {
  const Descriptor fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  return ::ioctl(fd.get(), SIOCGIFMTU, &request) == 0 ? request.ifr_mtu : 0;
}

Finding loopback(const NodeNetwork& network) {
  const auto lo = std::ranges::find(network.interfaces, true, &Interface::loopback);
  if (lo != network.interfaces.end() && lo->up) return {"lo", Level::good, "up", ""};
  return {"lo", Level::problem,
          "the loopback interface is down: nothing can be turned to a listener",
          "ip link set lo up"};
}

// A proxied connection ends here, so each side keeps to its own link's size; what is not
// intercepted depends on path MTU discovery as ever.
Finding mtu(const DoctorOptions& options, const NodeNetwork& network) {
  int least = 0;
  int most = 0;
  std::string text;
  for (const Interface& interface : network.interfaces) {
    if (interface.loopback || !interface.up) continue;
    const int size = mtu_of(interface.name);
    least = least == 0 ? size : std::min(least, size);
    most = std::max(most, size);
    text += (text.empty() ? "" : ", ") + interface.name + " " + std::to_string(size);
  }
  if (text.empty()) return {"mtu", Level::good, "no interface is up", ""};
  constexpr int kOnePage = 3498;  // of a 4 KiB page, what most drivers leave to XDP
  if (options.plan.guard.hook == GuardHook::xdp && most > kOnePage)
    return {"mtu", Level::warning, text + ": jumbo frames under guard.attach: xdp",
            "not every driver does XDP over several buffers; if attaching fails, lower the MTU to "
            "3498 or use guard.attach: xdp-generic or tc"};
  const bool probing = read_number(options.proc_sys + "/net/ipv4/tcp_mtu_probing").value_or(0) != 0;
  if (least != most && !probing && intercepts(options.plan, WayIn::forward))
    return {"mtu", Level::note, text + ": they differ",
            "where ICMP errors are filtered on the way, large packets to the smaller side vanish: "
            "sysctl -w net.ipv4.tcp_mtu_probing=1"};
  return {"mtu", Level::good, text, ""};
}

struct Plugin {
  const char* name;
  const char* interface;  // begins with
  const char* word;       // in its configuration
  const char* bites;
  const char* advice;
};
constexpr std::array kPlugins{
    Plugin{
        "Cilium", "cilium_", "cilium",
        "with eBPF host routing (cilium status: Host Routing: BPF) pods' packets pass netfilter "
        "by, "
        "and intercept.forward catches nothing of them; its TC programs may end the chain before "
        "the guard, its socket load balancing rewrites destinations before interception sees "
        "them, and it uses mark bits 0xffff0fff",
        "steering: tc in intercept.forward, or bpf.hostLegacyRouting: true; guard.position: first; "
        "intercept.marks: { mask: 0x3000, "
        "mark: 0x1000 }; see other_programs"},
    Plugin{
        "Calico's eBPF dataplane", "bpfin.cali", "calico-ebpf",
        "it forwards pods' packets past netfilter, so that intercept.forward may catch nothing of "
        "them, and drops what a pod's address is borrowed for (source_address: client)",
        "steering: tc in intercept.forward, or Calico's iptables or nftables dataplane; "
        "allowedSourcePrefixes for borrowed addresses"},
    Plugin{"Calico", "cali", "calico",
           "it marks packets in 0xffff0000 unless told otherwise, which "
           "holds Sluice's default bits 0x300000",
           "intercept.marks: { mask: 0x3000, mark: 0x1000 }, or narrow Calico's IptablesMarkMask"},
    Plugin{"flannel", "flannel", "flannel", "pods are reached through a tunnel with a smaller MTU",
           "nothing; see mtu"},
    Plugin{"kindnet", "kindnet", "kindnet",
           "it masquerades what leaves the cluster's networks, after "
           "interception: the upstream sees the node",
           "nothing"},
    Plugin{"kube-proxy (IPVS)", "kube-ipvs", "kube-ipvs",
           "service addresses are the node's own there: intercept.forward does not see them",
           "catch pods by `from`, and leave service ranges out by `except: { to: … }`"},
    Plugin{"Antrea", "antrea-gw", "antrea", "pods are switched by Open vSwitch, past nftables",
           "intercept.forward sees only what leaves the bridge"},
    Plugin{
        "OVN-Kubernetes", "ovn-k8s-mp", "ovn-kube",
        "pods are switched by Open vSwitch, past nftables; in its shared gateway mode what leaves "
        "the cluster, too",
        "intercept.forward sees only what leaves the bridge"},
    Plugin{"Kube-OVN", "ovn0", "kube-ovn", "pods are switched by Open vSwitch, past nftables",
           "intercept.forward sees only what leaves the bridge"},
    Plugin{"Weave", "weave", "weave", "pods are bridged; see br_netfilter", "nothing else"},
};

bool configured(const std::string& directory, const std::string& word) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    std::string name = entry.path().filename();
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (name.find(word) != std::string::npos) return true;
  }
  return false;
}

std::vector<Finding> cni(const DoctorOptions& options, const NodeNetwork& network) {
  std::vector<Finding> findings;
  for (const Plugin& plugin : kPlugins) {
    const bool there = configured(options.cni_directory, plugin.word) ||
                       std::ranges::any_of(network.interfaces, [&](const Interface& interface) {
                         return interface.name.starts_with(plugin.interface);
                       });
    if (!there) continue;
    const bool used = !options.plan.intercepts.empty() || options.plan.guard.enabled;
    findings.push_back({"cni", used ? Level::warning : Level::note,
                        message("{} runs on this node: {}", plugin.name, plugin.bites),
                        plugin.advice});
  }
  if (findings.empty()) findings.push_back({"cni", Level::good, "none that is known", ""});
  return findings;
}

Finding guarded(const DoctorOptions& options, const NodeNetwork& network) {
  const GuardPlan& guard = options.plan.guard;
  if (!guard.enabled) return {"guard_interfaces", Level::good, "the policy guards nothing", ""};
  std::string names;
  std::string strange;
  for (const Interface& interface : select_interfaces(network, guard.interfaces)) {
    names += (names.empty() ? "" : ", ") + interface.name;
    if (!interface.ethernet) strange += (strange.empty() ? "" : ", ") + interface.name;
  }
  if (names.empty())
    return {"guard_interfaces", Level::warning, "guard.interfaces names none that is there",
            "rules hold once such an interface comes; see `ip link`"};
  if (guard.hook != GuardHook::tc && !strange.empty())
    return {"guard_interfaces", Level::problem, strange + ": no Ethernet frames, so no XDP",
            "leave it out of guard.interfaces, or use guard.attach: tc"};
  std::string missing;
  for (const std::string& name : missing_interfaces(network, named_interfaces(guard)))
    missing += (missing.empty() ? "" : ", ") + name;
  if (!missing.empty())
    return {"guard_interfaces", Level::warning,
            "the guard names " + missing + ", which is not there",
            "rules hold there once it comes; see `ip link`"};
  return {"guard_interfaces", Level::good, names, ""};
}

}  // namespace

std::vector<Finding> examine_links(const DoctorOptions& options) {
  const auto network = read_node_network();
  if (!network)
    return {{"links", Level::problem, network.error().message, "CAP_NET_ADMIN is needed"}};
  std::vector<Finding> findings{loopback(*network), mtu(options, *network),
                                guarded(options, *network)};
  for (auto& finding : cni(options, *network))
    findings.push_back(std::move(finding));
  return findings;
}

}  // namespace sluice::kernel
