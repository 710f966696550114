// `sluice doctor`: what on this node will bite, before it does, and what to do about each. Reads
// only. Of the calling thread's network namespace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel {

struct Finding {
  enum class Level : std::uint8_t {
    good,     // looked at, nothing to say
    note,     // worth knowing, harms nothing
    warning,  // bites under some conditions
    problem,  // what the policy asks for will not work
  };
  std::string check;  // "rp_filter"
  Level level = Level::good;
  std::string what;    // what was found
  std::string advice;  // what to do; empty: nothing
};

struct DoctorOptions {
  Plan plan;  // of the policy that is to run; without one, all defaults: nothing intercepted
  std::string pin_root = "/sys/fs/bpf/sluice";
  std::string proc_sys = "/proc/sys";
  std::string cni_directory = "/etc/cni/net.d";
};

// Every check, in a fixed order; each gives at least one finding.
std::vector<Finding> examine_node(const DoctorOptions& options);

// Its parts.
std::vector<Finding> examine_machine(const DoctorOptions& options);   // kernel, capabilities, bpffs
std::vector<Finding> examine_sysctls(const DoctorOptions& options);   // rp_filter to syncookies
std::vector<Finding> examine_marks(const DoctorOptions& options);     // rules and tables of others
std::vector<Finding> examine_programs(const DoctorOptions& options);  // TC, XDP, sk_lookup
std::vector<Finding> examine_links(const DoctorOptions& options);     // lo, MTU, CNI
std::vector<Finding> examine_bypasses(const DoctorOptions& options);  // past netfilter
std::vector<Finding> examine_early_demux(const DoctorOptions& options);  // after a kill -9
std::vector<Finding> examine_cgroups(const DoctorOptions& options);      // that catch nothing
std::vector<Finding> examine_express(const DoctorOptions& options);      // where it hangs

}  // namespace sluice::kernel
