// Sysctls that change what becomes of steered packets. Sources: KERNEL documentation of
// networking/ip-sysctl, networking/nf_conntrack-sysctl and bridge netfilter.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sys/utsname.h>

#include "kernel/doctor_read.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;
using Names = std::vector<std::string>;

std::string joined(const Names& names) {
  std::string out;
  for (const auto& name : names)
    out += (out.empty() ? "" : ", ") + name;
  return out;
}

// The interfaces with a directory under net/ipv4/conf; not `all` and `default`.
Names interfaces_of(const DoctorOptions& options) {
  Names names;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(options.proc_sys + "/net/ipv4/conf", error)) {
    const std::string name = entry.path().filename();
    if (name != "all" && name != "default") names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

// The larger of `all`'s and the interface's own is what counts (ip-sysctl: rp_filter).
Names interfaces_with(const DoctorOptions& options, const std::string& sysctl, long value) {
  const std::string conf = options.proc_sys + "/net/ipv4/conf/";
  const long all = read_number(conf + "all/" + sysctl).value_or(0);
  Names names;
  for (const auto& name : interfaces_of(options)) {
    if (name == "lo") continue;
    if (std::max(all, read_number(conf + name + "/" + sysctl).value_or(0)) == value)
      names.push_back(name);
  }
  return names;
}

Finding rp_filter(const DoctorOptions& options) {
  const Names strict = interfaces_with(options, "rp_filter", 1);
  if (strict.empty())
    return {"rp_filter", Level::good, "nowhere strict: asymmetric paths pass", ""};
  const bool forward = intercepts(options.plan, WayIn::forward);
  return {
      "rp_filter", forward ? Level::warning : Level::note,
      "strict (1) on " + joined(strict) +
          ": packets whose source is reached by another interface are dropped before Sluice "
          "sees them (IPReversePathFilter in nstat)",
      "harmless where paths are symmetric; else sysctl -w net.ipv4.conf.all.rp_filter=2 (loose), "
      "or 0 on `all` and on the interface"};
}

Finding src_valid_mark(const DoctorOptions& options) {
  const Names set = interfaces_with(options, "src_valid_mark", 1);
  if (set.empty()) return {"src_valid_mark", Level::good, "not set", ""};
  return {"src_valid_mark", Level::note,
          "set on " + joined(set) +
              " (wg-quick does that): reverse lookups use the packet's mark. Sluice's rule `iif lo "
              "fwmark … lookup main` keeps intercepted packets from being taken for martians",
          "nothing, while nobody removes that rule; a rule of another tool before priority " +
              std::to_string(options.plan.marks.priority) + " would bring the trouble back"};
}

Finding br_netfilter(const DoctorOptions& options) {
  const auto on = read_number(options.proc_sys + "/net/bridge/bridge-nf-call-iptables");
  if (!on) return {"br_netfilter", Level::good, "not loaded", ""};
  if (*on == 0) return {"br_netfilter", Level::good, "loaded, and off for IPv4", ""};
  return {"br_netfilter", Level::warning,
          "bridged frames pass nftables (net.bridge.bridge-nf-call-iptables=1): traffic between "
          "two ports of one bridge is judged, and may be intercepted, as if it were forwarded",
          "if intercept.forward should not see it, name sources in `from`, or sysctl -w "
          "net.bridge.bridge-nf-call-iptables=0 where the CNI does not need it"};
}

Finding ip_forward(const DoctorOptions& options) {
  const bool v4 = read_number(options.proc_sys + "/net/ipv4/ip_forward").value_or(0) != 0;
  const bool v6 = read_number(options.proc_sys + "/net/ipv6/conf/all/forwarding").value_or(0) != 0;
  const std::string what = message("IPv4 {}, IPv6 {}", v4 ? "forwarded" : "not forwarded",
                                   v6 ? "forwarded" : "not forwarded");
  if (v4 || !intercepts(options.plan, WayIn::forward)) return {"ip_forward", Level::good, what, ""};
  return {"ip_forward", Level::problem,
          what + ": what intercept.forward does not catch, or bypasses, goes nowhere",
          "sysctl -w net.ipv4.ip_forward=1 (and net.ipv6.conf.all.forwarding=1)"};
}

// tcx came with 6.6.
bool kernel_has_tcx() {
  utsname name{};
  unsigned major = 0;
  unsigned minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%u.%u", &major, &minor) != 2) return true;
  return major > 6 || (major == 6 && minor >= 6);
}

Finding tcp_syncookies(const DoctorOptions& options) {
  const auto value = read_number(options.proc_sys + "/net/ipv4/tcp_syncookies");
  if (value.value_or(1) != 0) {
    const bool lost = std::ranges::any_of(options.plan.intercepts, [](const Intercept& entry) {
      return entry.way == WayIn::forward &&
             (entry.steering == SteerBy::tproxy || !kernel_has_tcx());
    });
    const std::string what = message("{}", value.value_or(1));
    if (!lost) return {"tcp_syncookies", Level::good, what, ""};
    return {"tcp_syncookies", Level::note,
            what +
                ": answers to SYN cookies of forwarded connections do not find their listener; "
                "in a SYN flood such clients have to try again",
            "Linux 6.6 or later, and steering other than tproxy; guard.per_source and per_service "
            "limit SYNs before cookies are needed"};
  }
  return {"tcp_syncookies", Level::warning,
          "off: a SYN flood fills the listeners' queues, and new connections fail",
          "sysctl -w net.ipv4.tcp_syncookies=1; guard.per_source and per_service limit SYNs before "
          "that"};
}

Finding conntrack(const DoctorOptions& options) {
  const std::string base = options.proc_sys + "/net/netfilter/nf_conntrack_";
  const auto count = read_number(base + "count");
  const auto most = read_number(base + "max");
  if (!count || !most || *most == 0)
    return {"conntrack", Level::good, "connections are not tracked", ""};
  const std::string what = message("{} of {} connections tracked", *count, *most);
  if (*count * 5 < *most * 4) return {"conntrack", Level::good, what, ""};
  return {"conntrack", Level::warning,
          what +
              ": when the table is full, new connections are dropped without a trace but for "
              "`nf_conntrack: table full` in the kernel log",
          message("sysctl -w net.netfilter.nf_conntrack_max={}; or notrack what need not be "
                  "tracked",
                  *most * 4)};
}

Finding early_demux(const DoctorOptions& options) {
  const long reflect = read_number(options.proc_sys + "/net/ipv4/fwmark_reflect").value_or(0);
  const long accepted = read_number(options.proc_sys + "/net/ipv4/tcp_fwmark_accept").value_or(0);
  if (reflect == 0 && accepted == 0) return {"fwmark", Level::good, "replies carry no mark", ""};
  return {"fwmark", intercepts(options.plan, WayIn::forward) ? Level::warning : Level::note,
          message("net.ipv4.fwmark_reflect={} tcp_fwmark_accept={}: replies inherit the mark of "
                  "what they answer, and are routed by it",
                  reflect, accepted),
          "sysctl -w both to 0, unless another tool on this node depends on them"};
}

}  // namespace

std::vector<Finding> examine_sysctls(const DoctorOptions& options) {
  return {rp_filter(options),   src_valid_mark(options), br_netfilter(options), ip_forward(options),
          early_demux(options), tcp_syncookies(options), conntrack(options)};
}

}  // namespace sluice::kernel
