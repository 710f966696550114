// Other people's BPF programs where ours hang, in the order in which they run.
#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstring>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/doctor_read.h"
#include "kernel/interfaces.h"
#include "kernel/message.h"
#include "kernel/netlink.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;
using protocol::OwnedFd;

constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);
constexpr std::size_t kLongestChain = 64;

struct Program {
  std::uint32_t id = 0;
  std::string name;  // "": may not be asked (CAP_SYS_ADMIN)
  bool ours() const { return name.starts_with("guard_") || name.starts_with("sluice_"); }
};

Program program_of(std::uint32_t id) {
  const OwnedFd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  __u32 length = sizeof(info);
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0) return {id, ""};
  return {id, info.name};
}

std::vector<Program> query(int target, bpf_attach_type type) {
  std::array<__u32, kLongestChain> ids{};
  __u32 count = ids.size();
  std::vector<Program> programs;
  if (bpf_prog_query(target, type, 0, nullptr, ids.data(), &count) != 0) return programs;
  for (__u32 i = 0; i < count; ++i)
    programs.push_back(program_of(ids[i]));
  return programs;
}

std::string shown(const Program& program) {
  return (program.name.empty() ? "id" : program.name + " id") + " " + std::to_string(program.id) +
         (program.ours() ? " (Sluice)" : "");
}

std::string chain(const std::vector<Program>& programs) {
  std::string text;
  for (const Program& program : programs)
    text += (text.empty() ? "" : " > ") + shown(program);
  return text;
}

// Filters of clsact at one end of an interface, by their names.
std::vector<std::string> clsact_filters(unsigned interface_index, bool egress) {
  std::vector<std::string> names;
  NetlinkSocket socket(NETLINK_ROUTE);
  NetlinkMessage request(RTM_GETTFILTER, 0);
  auto& fixed = request.extra<tcmsg>();
  fixed.tcm_family = AF_UNSPEC;
  fixed.tcm_ifindex = static_cast<int>(interface_index);
  fixed.tcm_parent = TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS);
  if (!socket.valid()) return names;
  socket.dump(request, [&](const nlmsghdr& header) {
    if (header.nlmsg_type != RTM_NEWTFILTER) return;
    // The dump tells of each priority, too, which is no filter.
    if (static_cast<const tcmsg*>(mnl_nlmsg_get_payload(&header))->tcm_handle == 0) return;
    std::string name;
    const auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(&header));
    const auto* at = static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(&header, sizeof(tcmsg)));
    for (; mnl_attr_ok(at, static_cast<int>(end - reinterpret_cast<const char*>(at)));
         at = mnl_attr_next(at)) {
      if (mnl_attr_get_type(at) == TCA_KIND) name = mnl_attr_get_str(at);
      if (mnl_attr_get_type(at) != TCA_OPTIONS) continue;
      const auto* inner = static_cast<const nlattr*>(mnl_attr_get_payload(at));
      const auto* inner_end = reinterpret_cast<const char*>(inner) + mnl_attr_get_payload_len(at);
      for (; mnl_attr_ok(inner, static_cast<int>(inner_end - reinterpret_cast<const char*>(inner)));
           inner = mnl_attr_next(inner)) {
        if (mnl_attr_get_type(inner) == TCA_BPF_NAME) name = mnl_attr_get_str(inner);
      }
    }
    name = name.substr(0, name.find(":["));  // libbpf has the id in it
    if (!name.empty() && (names.empty() || names.back() != name)) names.push_back(name);
  });
  return names;
}

void examine_tc(const Interface& where, bool egress, const Plan& plan,
                std::vector<Finding>& findings) {
  const auto tcx = query(static_cast<int>(where.index), egress ? kTcxEgress : kTcxIngress);
  const auto filters = clsact_filters(where.index, egress);
  const bool others = std::ranges::any_of(tcx, [](const Program& p) { return !p.ours(); }) ||
                      std::ranges::any_of(filters, [](const std::string& name) {
                        return name.find("guard_") == std::string::npos;
                      });
  if (!others) return;
  std::string text = message("{} {}: ", where.name, egress ? "egress" : "ingress") + chain(tcx);
  for (const auto& name : filters)
    text += (text.ends_with(": ") ? "" : " > ") + name + " (clsact)";
  // Who stands before us and answers 0 (TC_ACT_OK) ends the chain.
  const bool before_us = !tcx.empty() && !tcx.front().ours();
  const bool bites = plan.guard.enabled && plan.guard.hook == GuardHook::tc && before_us;
  findings.push_back({"tc_programs", bites ? Level::warning : Level::note, std::move(text),
                      before_us ? "a program before the guard that answers TC_ACT_OK hides packets "
                                  "from it: guard.position: first puts the guard before them at the "
                                  "next reload"
                                : "programs behind the guard still see what it lets pass"});
}

void examine_xdp(const Interface& where, const Plan& plan, std::vector<Finding>& findings) {
  __u32 id = 0;
  if (bpf_xdp_query_id(static_cast<int>(where.index), 0, &id) != 0 || id == 0) return;
  const Program program = program_of(id);
  if (program.ours()) return;
  const bool wanted = plan.guard.enabled && plan.guard.hook != GuardHook::tc;
  findings.push_back(
      {"xdp_programs", wanted ? Level::problem : Level::note,
       message("{}: {} runs before everything; what it drops or redirects Sluice never sees",
               where.name, shown(program)),
       wanted ? message("an interface has one XDP program, and Sluice replaces nobody's: use "
                        "guard.attach: tc, or ip link set dev {} xdp off",
                        where.name)
              : ""});
}

Finding sk_lookup_programs(const Plan& plan) {
  const OwnedFd netns(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const auto programs = query(netns.get(), BPF_SK_LOOKUP);
  std::size_t others = 0;
  for (const Program& program : programs)
    others += program.ours() ? 0 : 1;
  if (others == 0)
    return {"sk_lookup_programs", Level::good,
            programs.empty() ? "none in this network namespace" : chain(programs), ""};
  return {"sk_lookup_programs", plan.intercepts.empty() ? Level::note : Level::warning,
          chain(programs) + ": all run, and the first that assigns a socket holds",
          "where both claim a destination the earlier one wins; Sluice counts those in "
          "sluice_steer_taken_total, or see their own tools (tubectl, bpftool net)"};
}

}  // namespace

std::vector<Finding> examine_programs(const DoctorOptions& options) {
  std::vector<Finding> findings{sk_lookup_programs(options.plan)};
  const auto network = read_node_network();
  if (!network) return findings;
  for (const Interface& interface : network->interfaces) {
    examine_xdp(interface, options.plan, findings);
    for (const bool egress : {false, true})
      examine_tc(interface, egress, options.plan, findings);
  }
  if (findings.size() == 1)
    findings.push_back({"tc_programs", Level::good, "no other TC or XDP programs", ""});
  return findings;
}

}  // namespace sluice::kernel
