#include "gateway/main/sandbox.h"

#include <cerrno>
#include <cstring>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sluice::control {
namespace {

constexpr int kLastCapability = 63;  // of what capset(2) can hold; unknown ones answer EINVAL

std::unexpected<std::string> failure(const char* what) {
  return std::unexpected(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

void forbid_core_dumps() {
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

std::string missing_keeper_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return {};
  const auto has = [&](int capability) {
    return (data[capability / 32].effective & (1U << (capability % 32))) != 0;
  };
  std::string missing;
  const auto need = [&missing](bool there, const char* name) {
    if (there) return;
    if (!missing.empty()) missing += ", ";
    missing += name;
  };
  need(has(CAP_NET_ADMIN), "CAP_NET_ADMIN");
  // Before Linux 5.8, and as the older name since, CAP_SYS_ADMIN stands for both.
  need(has(CAP_BPF) || has(CAP_SYS_ADMIN), "CAP_BPF");
  need(has(CAP_PERFMON) || has(CAP_SYS_ADMIN), "CAP_PERFMON");
  return missing;
}

std::expected<void, std::string> enter_gateway_sandbox() {
  forbid_core_dumps();
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failure("PR_SET_NO_NEW_PRIVS");
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
    return failure("clearing ambient capabilities");

  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return failure("capget");
  if ((data[0].effective & (1U << CAP_SETPCAP)) != 0) {
    for (int capability = 0; capability <= kLastCapability; ++capability) {
      if (capability == CAP_NET_RAW) continue;
      if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL)
        return failure("PR_CAPBSET_DROP");
    }
  }
  const std::uint32_t keep = data[0].permitted & (1U << CAP_NET_RAW);
  data[0] = {.effective = keep, .permitted = keep, .inheritable = 0};
  data[1] = {};
  if (::syscall(SYS_capset, &header, data) != 0) return failure("capset");
  return {};
}

}  // namespace sluice::control
