// The places in the kernel's path of a packet that the guard's classifier can be entered from.
#pragma once

#include <cstdint>
#include <string>

#include "kernel/keeper.h"
#include "kernel/pins.h"

namespace sluice::kernel {

enum class GuardEntry : std::uint8_t { tc_ingress, tc_egress, xdp };
inline constexpr GuardEntry kGuardEntries[] = {GuardEntry::tc_ingress, GuardEntry::tc_egress,
                                               GuardEntry::xdp};

struct AttachError {
  int code = 0;  // errno
  Error error;
};
using AttachResult = std::expected<Descriptor, AttachError>;

// Of a loaded program; 0: it is none.
std::uint32_t program_id(int program);

}  // namespace sluice::kernel
