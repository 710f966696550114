// Signs that packets go past netfilter: other people's programs at TC ingress that are known to
// forward by themselves. Of the calling thread's network namespace.
#pragma once

#include <string>
#include <vector>

#include "kernel/interfaces.h"
#include "kernel/own_programs.h"

namespace sluice::kernel {

struct BypassSign {
  std::string plugin;     // "Cilium"
  std::string program;    // "cil_from_container"; empty: its name may not be asked (CAP_SYS_ADMIN)
  std::string interface;  // the first on which it is
  std::size_t interfaces = 0;
};

// One for each plugin and program, in the order of interfaces. `own` are none.
std::vector<BypassSign> find_bypass_signs(const NodeNetwork& network, const OwnPrograms& own);

// "Cilium's cil_from_container at lxc1 and 3 more interfaces"
std::string to_text(const BypassSign& sign);

// What to do about it.
inline constexpr const char* kBypassAdvice =
    "say `steering: tc` in intercept.forward; or let the plugin use the host's stack (Cilium: "
    "bpf.hostLegacyRouting: true)";

}  // namespace sluice::kernel
