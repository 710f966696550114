// Who hangs at TC, in the order in which they run: tcx programs, then filters of clsact.
#pragma once

#include <bpf/libbpf.h>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::kernel {

struct TcProgram {
  std::uint32_t id = 0;  // 0: a filter, known by its name
  std::string name;      // "": may not be asked (CAP_SYS_ADMIN)
  bool ours() const { return name.starts_with("guard_") || name.starts_with("sluice_"); }
};

// The program of that id, with its name where that may be asked.
TcProgram program_of(std::uint32_t id);
// What is attached to `target` (an interface, or a namespace's descriptor).
std::vector<TcProgram> attached_programs(int target, bpf_attach_type type);

std::vector<TcProgram> tcx_programs(unsigned interface_index, bool egress);
// By their names, one for each row of the same.
std::vector<std::string> clsact_filters(unsigned interface_index, bool egress);
// Both.
std::vector<TcProgram> tc_chain(unsigned interface_index, bool egress);

}  // namespace sluice::kernel
