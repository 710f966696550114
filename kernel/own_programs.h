// Which BPF programs of this network namespace are Sluice's: by what is pinned, since names may be
// asked with CAP_SYS_ADMIN alone, and anybody may choose them.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "kernel/tc_chain.h"

namespace sluice::kernel {

class OwnPrograms {
 public:
  // Of all ABI versions, since two keepers run beside each other during an upgrade.
  static OwnPrograms read(const std::string& pin_root);

  // By its id; or by its name, of what runs on after its pins were taken away.
  bool have(const TcProgram& program) const;

 private:
  std::set<std::uint32_t> ids_;
};

}  // namespace sluice::kernel
