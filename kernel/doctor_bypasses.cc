// Whether packets of pods reach netfilter at all: by who hangs before it, and by what a keeper that
// runs here has counted.
#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/abi_steer.h"
#include "kernel/bypass_signs.h"
#include "kernel/bypass_watch.h"
#include "kernel/doctor_read.h"
#include "kernel/interfaces.h"
#include "kernel/message.h"
#include "kernel/pins.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;

// Of all listeners whose new connections are seen where they come in.
struct Counted {
  std::uint64_t arrived = 0;
  std::uint64_t looked_up = 0;
};

Counted count_arrivals(const std::string& pins) {
  Counted sum;
  const Descriptor map(bpf_obj_get((pins + "/steer_counters").c_str()));
  if (!map) return sum;
  std::vector<sluice_steer_counters> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  for (__u32 group = 0; group < SLUICE_STEER_MAX_GROUPS; ++group) {
    if (bpf_map_lookup_elem(map.get(), &group, per_cpu.data()) != 0) continue;
    Counted one;
    for (const auto& counters : per_cpu) {
      one.arrived += counters.arrived;
      one.looked_up += counters.lookups;
    }
    if (one.arrived == 0) continue;  // another way, or nobody came
    sum.arrived += one.arrived;
    sum.looked_up += one.looked_up;
  }
  return sum;
}

}  // namespace

std::vector<Finding> examine_bypasses(const DoctorOptions& options) {
  constexpr const char* kCheck = "netfilter_bypass";
  const auto network = read_node_network();
  const auto signs = network ? find_bypass_signs(*network, OwnPrograms::read(options.pin_root))
                             : std::vector<BypassSign>{};
  const bool by_tc = std::ranges::any_of(options.plan.intercepts, [](const Intercept& entry) {
    return entry.steering == SteerBy::tc;
  });
  std::string who;
  for (const BypassSign& sign : signs)
    who += (who.empty() ? "" : "; ") + to_text(sign);
  if (by_tc)
    return {{kCheck, Level::good,
             "steering: tc takes connections before netfilter" +
                 (who.empty() ? std::string() : ", and before " + who),
             ""}};
  const Counted counted = count_arrivals(pin_directory_path(options.pin_root));
  if (counted.arrived >= BypassWatch::kFew && counted.looked_up == 0)
    return {{kCheck, Level::problem,
             message("{} new connections that intercept.forward claims came in, and none reached "
                     "netfilter's prerouting hook{}{}",
                     counted.arrived, who.empty() ? "" : ": ", who),
             kBypassAdvice}};
  if (who.empty())
    return {{kCheck, Level::good, "no program that is known to send packets past netfilter", ""}};
  const bool bites = intercepts(options.plan, WayIn::forward);
  return {{kCheck, bites ? Level::warning : Level::note,
           "programs that may send packets past netfilter: " + who, kBypassAdvice}};
}

}  // namespace sluice::kernel
