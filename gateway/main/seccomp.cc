#include "gateway/main/seccomp.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <linux/prctl.h>
#include <memory>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <span>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#include "gateway/main/sanitized.h"

namespace sluice::control {
namespace {

// --- the list ------------------------------------------------------------------------------------
// One row per purpose. A name that this architecture or libseccomp does not know is skipped.

using Names = std::initializer_list<const char*>;

constexpr Names kSockets{
    "accept",     "accept4",     "bind",       "connect",  "getpeername", "getsockname",
    "getsockopt", "listen",      "recvfrom",   "recvmmsg", "recvmsg",     "sendmmsg",
    "sendmsg",    "sendto",      "setsockopt", "shutdown", "socketpair"};

constexpr Names kBytes{"pipe",   "pipe2",  "pread64",  "preadv", "preadv2", "pwrite64", "pwritev",
                       "pwritev2", "read", "readv",    "sendfile", "splice", "tee",     "vmsplice",
                       "write",  "writev"};

constexpr Names kEvents{"epoll_create", "epoll_create1",   "epoll_ctl",       "epoll_pwait",
                        "epoll_pwait2", "epoll_wait",      "eventfd2",        "inotify_add_watch",
                        "inotify_init1", "inotify_rm_watch", "poll",          "ppoll",
                        "pselect6",     "select",          "timerfd_create",  "timerfd_gettime",
                        "timerfd_settime"};

// Policy files by memfd; certificates, keys, lists, logs, state by path. What the process may open
// is the file system's to say: it has no capability that would overrule it.
constexpr Names kFiles{
    "access",     "chmod",     "close",      "close_range", "copy_file_range", "dup",
    "dup2",       "dup3",      "faccessat",  "faccessat2",  "fadvise64",       "fallocate",
    "fchmod",     "fchmodat",  "fchown",     "fcntl",       "fdatasync",       "flock",
    "fstat",      "fstatfs",   "fsync",      "ftruncate",   "getcwd",          "getdents64",
    "link",       "linkat",    "lseek",      "lstat",       "memfd_create",    "mkdir",
    "mkdirat",    "newfstatat", "open",      "openat",      "readlink",        "readlinkat",
    "rename",     "renameat",  "renameat2",  "rmdir",       "stat",            "statfs",
    "statx",      "umask",     "unlink",     "unlinkat",    "utimensat"};

constexpr Names kMemory{"brk",   "madvise", "membarrier", "mincore", "mlock", "mlock2",
                        "mremap", "msync",  "munlock",    "munmap"};

constexpr Names kTime{"clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday",
                      "nanosleep",    "time",         "timer_create",    "timer_delete",
                      "timer_settime"};

constexpr Names kThreads{
    "arch_prctl", "exit",        "exit_group",  "futex",       "futex_waitv", "get_robust_list",
    "getcpu",     "gettid",      "restart_syscall", "rseq",    "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getparam", "sched_getscheduler",
    "sched_setaffinity", "sched_yield", "set_robust_list", "set_tid_address", "sigaltstack",
    "tgkill"};

constexpr Names kAboutItself{"getegid",   "geteuid", "getgid",    "getgroups", "getpgrp",
                             "getpid",    "getppid", "getrandom", "getresgid", "getresuid",
                             "getrlimit", "getrusage", "getuid",  "sysinfo",   "times",
                             "uname"};

// A leak is looked for by a process that debugs this one as it ends.
constexpr Names kLeakChecker{"clone", "kill", "prctl", "ptrace", "wait4"};

constexpr std::array kAllowed{kSockets, kBytes, kEvents, kFiles, kMemory, kTime, kThreads,
                              kAboutItself};

// Allowed only with these arguments.
struct Condition {
  const char* name;
  std::vector<scmp_arg_cmp> arguments;
};

constexpr scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}
constexpr scmp_arg_cmp has(unsigned argument, std::uint64_t bits) {
  return {argument, SCMP_CMP_MASKED_EQ, bits, bits};
}
constexpr scmp_arg_cmp lacks(unsigned argument, std::uint64_t bits) {
  return {argument, SCMP_CMP_MASKED_EQ, bits, 0};
}

const std::array kConditions{
    // No raw, packet or vsock sockets. Netlink: getaddrinfo(3) asks for the node's addresses.
    Condition{"socket", {equals(0, AF_INET)}},
    Condition{"socket", {equals(0, AF_INET6)}},
    Condition{"socket", {equals(0, AF_UNIX)}},
    Condition{"socket", {equals(0, AF_NETLINK)}},
    Condition{"ioctl", {equals(1, FIONBIO)}},
    Condition{"ioctl", {equals(1, FIONREAD)}},
    Condition{"ioctl", {equals(1, TCGETS)}},  // isatty(3)
    // Threads, but no processes.
    Condition{"clone", {has(0, CLONE_THREAD)}},
    // Code comes from files (a library that is loaded late), never from memory that was written.
    Condition{"mmap", {lacks(2, PROT_EXEC)}},
    Condition{"mmap", {has(2, PROT_EXEC), lacks(3, MAP_ANONYMOUS)}},
    Condition{"mprotect", {lacks(2, PROT_EXEC)}},
    Condition{"prctl", {equals(0, PR_SET_NAME)}},
    Condition{"prctl", {equals(0, PR_SET_VMA)}},
    Condition{"prlimit64", {equals(2, 0)}},  // asks; does not set
};

// --- a refusal -----------------------------------------------------------------------------------

constexpr std::size_t kCalls = 1024;
constexpr std::size_t kNameSize = 32;
std::array<std::array<char, kNameSize>, kCalls> call_names{};  // of all calls, by number
std::array<std::atomic<bool>, kCalls> said_refused{};
std::atomic<std::uint64_t> refused{0};

// Only what signal-safety(7) allows.
void say(int number) {
  const auto at = static_cast<std::size_t>(number);
  if (number < 0 || at >= kCalls || said_refused[at].exchange(true)) return;
  char line[160] = "error gateway: seccomp refused a system call that this process never makes: ";
  std::size_t size = std::strlen(line);
  for (std::size_t i = 0; i < kNameSize && call_names[at][i] != '\0'; ++i)
    line[size++] = call_names[at][i];
  line[size++] = '\n';
  (void)!::write(STDERR_FILENO, line, size);
}

// The call returns EPERM, as if the kernel had refused it.
void on_refusal(int, siginfo_t* info, void* context) {
  refused.fetch_add(1, std::memory_order_relaxed);
  say(info->si_syscall);
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  machine.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
  machine.regs[0] = static_cast<unsigned long long>(-EPERM);
#else
#error "which register holds a system call's result?"
#endif
}

void learn_names() {
  for (std::size_t number = 0; number < kCalls; ++number) {
    char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number));
    std::snprintf(call_names[number].data(), kNameSize, "%s", name != nullptr ? name : "(unnamed)");
    std::free(name);
  }
}

std::expected<void, std::string> handle_refusals() {
  learn_names();
  struct sigaction action{};
  action.sa_sigaction = on_refusal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  if (::sigaction(SIGSYS, &action, nullptr) != 0)
    return std::unexpected(std::string("SIGSYS: ") + std::strerror(errno));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGSYS);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  return {};
}

struct FilterDeleter {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, FilterDeleter>;

int add(void* filter, std::uint32_t action, const char* name,
        std::span<const scmp_arg_cmp> arguments = {}) {
  const int number = seccomp_syscall_resolve_name(name);
  if (number == __NR_SCMP_ERROR) return 0;
  return seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(arguments.size()),
                                arguments.data());
}

std::expected<void, std::string> fill(void* filter) {
  const auto check = [](int error, const char* name) -> std::expected<void, std::string> {
    if (error == 0) return {};
    return std::unexpected(std::string("seccomp: ") + name + ": " + std::strerror(-error));
  };
  for (const Names& row : kAllowed) {
    for (const char* name : row) {
      if (auto ok = check(add(filter, SCMP_ACT_ALLOW, name), name); !ok) return ok;
    }
  }
  if (kSanitized) {
    for (const char* name : kLeakChecker) {
      if (auto ok = check(add(filter, SCMP_ACT_ALLOW, name), name); !ok) return ok;
    }
  }
  for (const Condition& condition : kConditions) {
    const int error = add(filter, SCMP_ACT_ALLOW, condition.name, condition.arguments);
    if (auto ok = check(error, condition.name); !ok) return ok;
  }
  // Its flags are in memory that a filter cannot read: the C library then uses clone.
  return check(add(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3"), "clone3");
}

}  // namespace

std::uint64_t refused_system_calls() {
  return refused.load(std::memory_order_relaxed);
}

std::expected<void, std::string> restrict_system_calls() {
  const Filter filter(seccomp_init(SCMP_ACT_TRAP));
  if (!filter) return std::unexpected("seccomp: out of memory");
  if (auto ok = fill(filter.get()); !ok) return std::unexpected(ok.error());
  if (auto ok = handle_refusals(); !ok) return std::unexpected(ok.error());
  if (const int error = seccomp_load(filter.get()); error != 0)
    return std::unexpected(std::string("seccomp: ") + std::strerror(-error));
  return {};
}

}  // namespace sluice::control
