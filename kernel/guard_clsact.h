// TC by filters of a clsact qdisc: what kernels before 6.6 have.
#pragma once

#include "kernel/guard_entry.h"
#include "kernel/interfaces.h"

namespace sluice::kernel {

// Where one of our filters is, or would be. What else is found there is somebody else's, and stays.
struct ClsactPlace {
  unsigned interface_index = 0;
  GuardEntry entry = GuardEntry::tc_ingress;
  bool first = true;  // the lowest priority number, or the highest
  // Of interception (steer_tc.h), not of the guard: another handle, and `first` among filters of the
  // lowest priority number, else right behind them.
  bool takes = false;
};

// Adds the qdisc where it is missing. `replace_ours`: the filter that is there is ours; otherwise a
// filter at our handle is somebody else's, and an error. The descriptor of the result is invalid.
AttachResult attach_clsact(int program, const Interface& where, const ClsactPlace& place,
                           bool replace_ours);

std::uint32_t clsact_program(const ClsactPlace& place);  // its id; 0: no filter there
bool remove_clsact(const ClsactPlace& place);

}  // namespace sluice::kernel
