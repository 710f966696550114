#include "kernel/steer_counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstddef>
#include <vector>

namespace sluice::kernel {
namespace {

std::vector<sluice_steer_counters> one_for_each_processor() {
  return std::vector<sluice_steer_counters>(static_cast<std::size_t>(libbpf_num_possible_cpus()));
}

}  // namespace

sluice_steer_counters SteerCounters::of(std::uint32_t group) const {
  auto per_cpu = one_for_each_processor();
  sluice_steer_counters sum{};
  if (bpf_map_lookup_elem(map_, &group, per_cpu.data()) != 0) return sum;
  for (const auto& one : per_cpu) {
    sum.lookups += one.lookups;
    sum.assigned += one.assigned;
    sum.no_socket += one.no_socket;
    sum.taken += one.taken;
    sum.arrived += one.arrived;
    sum.lapsed += one.lapsed;
  }
  return sum;
}

void SteerCounters::clear(std::uint32_t group) {
  const auto zero = one_for_each_processor();
  bpf_map_update_elem(map_, &group, zero.data(), BPF_ANY);
}

}  // namespace sluice::kernel
