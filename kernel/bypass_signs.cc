#include "kernel/bypass_signs.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "kernel/message.h"
#include "kernel/tc_chain.h"

namespace sluice::kernel {
namespace {

struct Forwarder {
  const char* plugin;
  std::string_view program;        // begins with; as the kernel cuts it, to 15 characters
  std::string_view interface;      // begins with; for a program whose name may not be asked
  std::string_view own_interface;  // likewise, what the plugin always has
};
constexpr std::array kForwarders{
    Forwarder{"Cilium", "cil_from_contai", "lxc", "cilium_"},
    Forwarder{"Cilium", "cil_from_netdev", "cilium_", "cilium_"},
    Forwarder{"Cilium", "from-container", "lxc", "cilium_"},  // before 1.13
    Forwarder{"Cilium", "from-netdev", "cilium_", "cilium_"},
    Forwarder{"Calico's eBPF dataplane", "cali_tc_", "cali", "bpfin.cali"},
    Forwarder{"Calico's eBPF dataplane", "calico_tc_", "cali", "bpfin.cali"},
};

// A program without a name is told by where it hangs, on a node that has the plugin's own
// interface.
const Forwarder* known_forwarder(const TcProgram& program, const std::string& interface,
                                 const NodeNetwork& network) {
  const auto* found = std::ranges::find_if(kForwarders, [&](const Forwarder& one) {
    if (!program.name.empty()) return program.name.find(one.program) != std::string::npos;
    return interface.starts_with(one.interface) &&
           std::ranges::any_of(network.interfaces, [&](const Interface& other) {
             return other.name.starts_with(one.own_interface);
           });
  });
  return found == kForwarders.end() ? nullptr : found;
}

}  // namespace

std::vector<BypassSign> find_bypass_signs(const NodeNetwork& network, const OwnPrograms& own) {
  std::vector<BypassSign> signs;
  for (const Interface& where : network.interfaces) {
    for (const TcProgram& program : tc_chain(where.index, false)) {
      const Forwarder* forwarder = known_forwarder(program, where.name, network);
      if (forwarder == nullptr || own.have(program)) continue;
      const auto known = std::ranges::find_if(signs, [&](const BypassSign& sign) {
        return sign.plugin == forwarder->plugin && sign.program == program.name;
      });
      if (known != signs.end()) {
        ++known->interfaces;
      } else {
        signs.push_back({forwarder->plugin, program.name, where.name, 1});
      }
    }
  }
  return signs;
}

std::string to_text(const BypassSign& sign) {
  const std::string program = sign.program.empty() ? "program" : sign.program;
  const std::string more =
      sign.interfaces > 1 ? message(" and {} more interfaces", sign.interfaces - 1) : "";
  return message("{}: {} at {}{}", sign.plugin, program, sign.interface, more);
}

}  // namespace sluice::kernel
