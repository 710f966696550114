// Who hangs at TC, in the order in which they run: tcx programs, then filters of clsact.
#pragma once

#include <bpf/libbpf.h>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::kernel {

struct TcProgram {
  std::uint32_t id = 0;  // 0: a filter without a program
  std::string name;      // "": may not be asked (CAP_SYS_ADMIN); whose it is says OwnPrograms
  bool operator==(const TcProgram&) const = default;
};

// The program of that id, with its name where that may be asked.
TcProgram program_of(std::uint32_t id);
// What is attached to `target` (an interface, or a namespace's descriptor).
std::vector<TcProgram> attached_programs(int target, bpf_attach_type type);

std::vector<TcProgram> tcx_programs(unsigned interface_index, bool egress);
// Each once; one without a program by the name of its kind.
std::vector<TcProgram> clsact_filters(unsigned interface_index, bool egress);
// Both.
std::vector<TcProgram> tc_chain(unsigned interface_index, bool egress);

}  // namespace sluice::kernel
