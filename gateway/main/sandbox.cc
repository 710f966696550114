#include "gateway/main/sandbox.h"

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/main/seccomp.h"

namespace sluice::control {
namespace {

constexpr int kLastCapability = 63;  // of what capset(2) can hold; unknown ones answer EINVAL

std::unexpected<std::string> failure(const char* what) {
  return std::unexpected(std::string(what) + ": " + std::strerror(errno));
}

struct Capabilities {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t inheritable = 0;
};

constexpr std::uint64_t bit(int capability) {
  return std::uint64_t{1} << capability;
}

// capget(2): two words of 32 bits for each set.
std::expected<Capabilities, std::string> read_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct words[2] = {};
  if (::syscall(SYS_capget, &header, words) != 0) return failure("capget");
  const auto join = [](std::uint32_t low, std::uint32_t high) {
    return std::uint64_t{high} << 32 | low;
  };
  return Capabilities{.effective = join(words[0].effective, words[1].effective),
                      .permitted = join(words[0].permitted, words[1].permitted),
                      .inheritable = join(words[0].inheritable, words[1].inheritable)};
}

std::expected<void, std::string> write_capabilities(const Capabilities& wanted) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct words[2] = {};
  for (int i = 0; i < 2; ++i)
    words[i] = {.effective = static_cast<std::uint32_t>(wanted.effective >> (32 * i)),
                .permitted = static_cast<std::uint32_t>(wanted.permitted >> (32 * i)),
                .inheritable = static_cast<std::uint32_t>(wanted.inheritable >> (32 * i))};
  if (::syscall(SYS_capset, &header, words) != 0) return failure("capset");
  return {};
}

// Gone for this process and all that it starts, but for `keep`. Without CAP_SETPCAP the bounding set
// cannot be changed, and is no smaller than it was.
std::expected<void, std::string> shrink_bounding_set(const Capabilities& held, int keep = -1) {
  if ((held.effective & bit(CAP_SETPCAP)) == 0) return {};
  for (int capability = 0; capability <= kLastCapability; ++capability) {
    if (capability == keep) continue;
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL)
      return failure("PR_CAPBSET_DROP");
  }
  return {};
}

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
};

std::expected<User, std::string> find_user(const std::string& user) {
  if (const passwd* entry = ::getpwnam(user.c_str()); entry != nullptr)
    return User{.uid = entry->pw_uid, .gid = entry->pw_gid};
  std::uint32_t number = 0;
  const char* end = user.data() + user.size();
  const auto [at, error] = std::from_chars(user.data(), end, number);
  if (error == std::errc{} && at == end) return User{.uid = number, .gid = number};
  return std::unexpected("--user " + user +
                         ": no such user; create it (adduser --system), or give a number");
}

// The permitted capabilities stay, for capset(2) to choose from.
std::expected<void, std::string> become_user(const std::string& user) {
  const auto found = find_user(user);
  if (!found) return std::unexpected(found.error());
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return failure("PR_SET_KEEPCAPS");
  if (::setgroups(0, nullptr) != 0) return failure("setgroups (needs CAP_SETGID)");
  if (::setresgid(found->gid, found->gid, found->gid) != 0)
    return failure("setresgid (needs CAP_SETGID)");
  if (::setresuid(found->uid, found->uid, found->uid) != 0)
    return failure("setresuid (needs CAP_SETUID)");
  return {};
}

}  // namespace

void forbid_core_dumps() {
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

std::string missing_keeper_capabilities() {
  const auto held = read_capabilities();
  if (!held) return {};
  const auto has = [&](int capability) { return (held->effective & bit(capability)) != 0; };
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

std::expected<void, std::string> drop_spare_capabilities() {
  auto held = read_capabilities();
  if (!held) return std::unexpected(held.error());
  // NET_RAW, SETPCAP, SETUID, SETGID: for the gateway process on its way to fewer. KILL: to end it.
  // NET_BIND_SERVICE: listeners below port 1024. DAC_READ_SEARCH: the policy's and its secrets'
  // owners may be others. SYS_ADMIN: where it stands for BPF and PERFMON, which are younger.
  std::uint64_t keep = 0;
  for (const int capability :
       {CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_NET_RAW, CAP_SETPCAP, CAP_SETUID, CAP_SETGID,
        CAP_KILL, CAP_NET_BIND_SERVICE, CAP_DAC_READ_SEARCH})
    keep |= bit(capability);
  if ((held->permitted & bit(CAP_BPF)) == 0) keep |= bit(CAP_SYS_ADMIN);
  return write_capabilities({.effective = held->effective & keep,
                             .permitted = held->permitted & keep,
                             .inheritable = held->inheritable & keep});
}

std::expected<void, std::string> drop_all_privileges() {
  forbid_core_dumps();
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failure("PR_SET_NO_NEW_PRIVS");
  const auto held = read_capabilities();
  if (!held) return std::unexpected(held.error());
  if (auto ok = shrink_bounding_set(*held); !ok) return ok;
  return write_capabilities({});
}

std::expected<gid_t, std::string> group_of(const std::string& user) {
  const auto found = find_user(user);
  if (!found) return std::unexpected(found.error());
  return found->gid;
}

std::expected<void, std::string> check_user(const std::string& user) {
  auto found = find_user(user);
  if (!found) return std::unexpected(found.error());
  return {};
}

std::expected<void, std::string> enter_gateway_sandbox(const std::string& user) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failure("PR_SET_NO_NEW_PRIVS");
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
    return failure("clearing ambient capabilities");
  auto held = read_capabilities();
  if (!held) return std::unexpected(held.error());
  if (auto ok = shrink_bounding_set(*held, CAP_NET_RAW); !ok) return ok;
  if (!user.empty()) {
    if (auto ok = become_user(user); !ok) return ok;
  }
  const std::uint64_t keep = held->permitted & bit(CAP_NET_RAW);
  if (auto ok = write_capabilities({.effective = keep, .permitted = keep, .inheritable = 0}); !ok)
    return ok;
  forbid_core_dumps();  // another user's process may be dumped again
  if (auto restricted = restrict_system_calls(); !restricted)
    return std::unexpected(restricted.error());
  return {};
}

}  // namespace sluice::control
