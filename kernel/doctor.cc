#include "kernel/doctor.h"

#include <iterator>

namespace sluice::kernel {

std::vector<Finding> examine_node(const DoctorOptions& options) {
  std::vector<Finding> all;
  for (const auto part :
       {examine_machine, examine_sysctls, examine_marks, examine_links, examine_programs,
        examine_bypasses, examine_cgroups, examine_express, examine_early_demux}) {
    auto found = part(options);
    all.insert(all.end(), std::make_move_iterator(found.begin()),
               std::make_move_iterator(found.end()));
  }
  return all;
}

}  // namespace sluice::kernel
