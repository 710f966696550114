// Other people's BPF programs where ours hang, in the order in which they run.
#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include "kernel/doctor_read.h"
#include "kernel/interfaces.h"
#include "kernel/keeper_protocol.h"
#include "kernel/message.h"
#include "kernel/own_programs.h"
#include "kernel/tc_chain.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;
using protocol::OwnedFd;

std::string shown(const TcProgram& program, const OwnPrograms& own) {
  return (program.name.empty() ? "id" : program.name + " id") + " " + std::to_string(program.id) +
         (own.have(program) ? " (Sluice)" : "");
}

std::string chain(const std::vector<TcProgram>& programs, const OwnPrograms& own) {
  std::string text;
  for (const TcProgram& program : programs)
    text += (text.empty() ? "" : " > ") + shown(program, own);
  return text;
}

bool others_among(const std::vector<TcProgram>& programs, const OwnPrograms& own) {
  return !std::ranges::all_of(programs, [&](const TcProgram& one) { return own.have(one); });
}

void examine_tc(const Interface& where, bool egress, const Plan& plan, const OwnPrograms& own,
                std::vector<Finding>& findings) {
  const auto tcx = tcx_programs(where.index, egress);
  const auto filters = clsact_filters(where.index, egress);
  if (!others_among(tcx, own) && !others_among(filters, own)) return;
  std::string text =
      message("{} {}: ", where.name, egress ? "egress" : "ingress") + chain(tcx, own);
  for (const TcProgram& filter : filters)
    text += (text.ends_with(": ") ? "" : " > ") + filter.name + " (clsact)";
  // Who stands before us and answers 0 (TC_ACT_OK) ends the chain.
  const bool before_us = !tcx.empty() && !own.have(tcx.front());
  const bool bites = plan.guard.enabled && plan.guard.hook == GuardHook::tc && before_us;
  findings.push_back({"tc_programs", bites ? Level::warning : Level::note, std::move(text),
                      before_us
                          ? "a program before the guard that answers TC_ACT_OK hides packets "
                            "from it: guard.position: first puts the guard before them at the "
                            "next reload"
                          : "programs behind the guard still see what it lets pass"});
}

void examine_xdp(const Interface& where, const Plan& plan, const OwnPrograms& own,
                 std::vector<Finding>& findings) {
  __u32 id = 0;
  if (bpf_xdp_query_id(static_cast<int>(where.index), 0, &id) != 0 || id == 0) return;
  const TcProgram program = program_of(id);
  if (own.have(program)) return;
  const bool wanted = plan.guard.enabled && plan.guard.hook != GuardHook::tc;
  findings.push_back(
      {"xdp_programs", wanted ? Level::problem : Level::note,
       message("{}: {} runs before everything; what it drops or redirects Sluice never sees",
               where.name, shown(program, own)),
       wanted ? message("an interface has one XDP program, and Sluice replaces nobody's: use "
                        "guard.attach: tc, or ip link set dev {} xdp off",
                        where.name)
              : ""});
}

Finding sk_lookup_programs(const Plan& plan, const OwnPrograms& own) {
  const OwnedFd netns(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const auto programs = attached_programs(netns.get(), BPF_SK_LOOKUP);
  if (!others_among(programs, own))
    return {"sk_lookup_programs", Level::good,
            programs.empty() ? "none in this network namespace" : chain(programs, own), ""};
  return {"sk_lookup_programs", plan.intercepts.empty() ? Level::note : Level::warning,
          chain(programs, own) + ": all run, and the first that assigns a socket holds",
          "where both claim a destination the earlier one wins; Sluice counts those in "
          "sluice_steer_taken_total, or see their own tools (tubectl, bpftool net)"};
}

}  // namespace

std::vector<Finding> examine_programs(const DoctorOptions& options) {
  const OwnPrograms own = OwnPrograms::read(options.pin_root);
  std::vector<Finding> findings{sk_lookup_programs(options.plan, own)};
  const auto network = read_node_network();
  if (!network) return findings;
  for (const Interface& interface : network->interfaces) {
    examine_xdp(interface, options.plan, own, findings);
    for (const bool egress : {false, true})
      examine_tc(interface, egress, options.plan, own, findings);
  }
  if (findings.size() == 1)
    findings.push_back({"tc_programs", Level::good, "no other TC or XDP programs", ""});
  return findings;
}

}  // namespace sluice::kernel
