// The kernel and what this process may do with it.
#include <bpf/libbpf.h>
#include <cstdio>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kernel/doctor_read.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;

Finding kernel_version() {
  utsname system{};
  ::uname(&system);
  int major = 0;
  int minor = 0;
  std::sscanf(system.release, "%d.%d", &major, &minor);
  const auto before = [&](int a, int b) { return major < a || (major == a && minor < b); };
  if (before(5, 9))
    return {"kernel", Level::problem, message("Linux {}: no sk_lookup (5.9)", system.release),
            "steering falls back to nftables' tproxy; the guard needs 5.10: use a newer kernel"};
  if (before(6, 6))
    return {"kernel", Level::note,
            message("Linux {}: no tcx links (6.6), the guard hangs on clsact filters",
                    system.release),
            ""};
  return {"kernel", Level::good, message("Linux {}: sk_lookup, tcx", system.release), ""};
}

Finding capabilities(const Plan& plan) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  ::syscall(SYS_capget, &header, data);
  const auto has = [&](unsigned capability) {
    return (data[capability / 32].effective & (1U << (capability % 32))) != 0;
  };
  std::string missing;
  const auto need = [&](bool there, const char* name) {
    if (!there) missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
  need(has(CAP_NET_ADMIN), "CAP_NET_ADMIN");
  need(has(CAP_BPF) || has(CAP_SYS_ADMIN), "CAP_BPF");
  need(has(CAP_PERFMON) || has(CAP_SYS_ADMIN), "CAP_PERFMON");
  need(has(CAP_NET_RAW) || has(CAP_NET_ADMIN), "CAP_NET_RAW");
  if (missing.empty())
    return {"capabilities", Level::good, "all that keeper and gateway need", ""};
  const bool needed = !plan.intercepts.empty() || plan.guard.enabled;
  return {"capabilities", needed ? Level::problem : Level::note, "missing: " + missing,
          "needed for intercept, guard and bans: run as root, or give them (systemd: "
          "AmbientCapabilities, containers: capabilities.add); what follows was seen without them"};
}

Finding bpf_filesystem(const DoctorOptions& options) {
  const std::string mount = options.pin_root.substr(0, options.pin_root.rfind('/'));
  struct statfs status{};
  if (::statfs(mount.c_str(), &status) == 0 &&
      static_cast<unsigned long>(status.f_type) == BPF_FS_MAGIC)
    return {"bpffs", Level::good, mount + " is a BPF file system", ""};
  if (mount == "/sys/fs/bpf")
    return {"bpffs", Level::note, "none at /sys/fs/bpf",
            "sluice mounts it itself where it may; in a container mount the host's: without it "
            "guard rules and bans end with the process"};
  return {"bpffs", Level::problem, message("{} is no BPF file system", mount),
          message("mount -t bpf bpf {}", mount)};
}

Finding type_information() {
  if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0)
    return {"btf", Level::good, "the kernel has BTF", ""};
  return {"btf", Level::note, "the kernel has no BTF",
          "sluice needs none; other eBPF tools on this node may"};
}

Finding sk_lookup_support(const Plan& plan) {
  if (::geteuid() == 0 && libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SK_LOOKUP, nullptr) == 1)
    return {"sk_lookup_support", Level::good, "the kernel takes sk_lookup programs", ""};
  const bool asked = std::ranges::any_of(plan.intercepts, [](const Intercept& entry) {
    return entry.steering == SteerBy::sk_lookup;
  });
  return {"sk_lookup_support", asked ? Level::problem : Level::note,
          "the kernel takes no sk_lookup programs, or this process may not ask",
          "steering: auto falls back to nftables' tproxy"};
}

Finding descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  constexpr rlim_t kEnough = 100'000;
  const std::string what = message("at most {} open descriptors: about {} proxied connections",
                                   limit.rlim_max, (limit.rlim_max > 256 ? limit.rlim_max - 256 : 0) / 2);
  if (limit.rlim_max >= kEnough) return {"descriptors", Level::good, what, ""};
  return {"descriptors", limit.rlim_max < 4096 ? Level::warning : Level::note, what,
          "raise it where it is set: LimitNOFILE in systemd, ulimits of the container runtime, "
          "/etc/security/limits.conf"};
}

}  // namespace

std::vector<Finding> examine_machine(const DoctorOptions& options) {
  return {kernel_version(),   capabilities(options.plan),      bpf_filesystem(options),
          type_information(), sk_lookup_support(options.plan), descriptors()};
}

}  // namespace sluice::kernel
