#include "gateway/main/seccomp.h"

#include <arpa/inet.h>
#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "gateway/main/sanitized.h"

namespace sluice::control {
namespace {

struct Outcome {
  int status = -1;    // of the body, 0 to 127; -1: it was killed
  std::string said;  // on standard error
};

// Runs the body in a child that may make the gateway's system calls and no others.
Outcome restricted(const std::function<int()>& body) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[1]);
    const auto done = restrict_system_calls();
    ::_exit(done ? body() : 126);
  }
  ::close(ends[1]);
  Outcome out;
  char buffer[1024];
  for (ssize_t size = 0; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    out.said.append(buffer, static_cast<std::size_t>(size));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status)) out.status = WEXITSTATUS(status);
  return out;
}

int denied(long result) {
  return result == -1 && errno == EPERM ? 0 : 1;
}

TEST(Seccomp, NoProgramsNoProcessesNoDebugging) {
  const Outcome outcome = restricted([] {
    char name[] = "/bin/true";
    char* arguments[] = {name, nullptr};
    int failed = denied(::execve(name, arguments, nullptr));
    failed += denied(::syscall(SYS_bpf, 0, nullptr, 0));
    failed += denied(::syscall(SYS_setns, 0, 0));
    failed += denied(::syscall(SYS_io_uring_setup, 1, nullptr));
    failed += refused_system_calls() == 4 ? 0 : 1;
    if (kSanitized) return failed;  // its search for leaks needs these
    failed += denied(::fork());
    failed += denied(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
    failed += denied(::kill(::getppid(), SIGCONT));
    failed += refused_system_calls() == 7 ? 0 : 1;
    return failed;
  });
  EXPECT_EQ(outcome.status, 0) << outcome.said;
  EXPECT_THAT(outcome.said, testing::HasSubstr("seccomp refused"));
  EXPECT_THAT(outcome.said, testing::HasSubstr("execve\n")) << "it is named";
  EXPECT_THAT(outcome.said, testing::HasSubstr("bpf\n"));
}

TEST(Seccomp, SaidOncePerCall) {
  const Outcome outcome = restricted([] {
    for (int i = 0; i < 100; ++i)
      (void)::syscall(SYS_bpf, 0, nullptr, 0);
    return refused_system_calls() == 100 ? 0 : 1;
  });
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(std::ranges::count(outcome.said, '\n'), 1) << outcome.said;
}

TEST(Seccomp, NoRawSocketsNoMemoryThatIsWrittenAndRun) {
  const Outcome outcome = restricted([] {
    int failed = denied(::socket(AF_PACKET, SOCK_RAW, 0));
    failed += denied(::socket(AF_VSOCK, SOCK_STREAM, 0));
    void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    failed += denied(::mprotect(memory, 4096, PROT_READ | PROT_EXEC));
    failed += ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                      MAP_FAILED
                  ? 0
                  : 1;
    return failed;
  });
  EXPECT_EQ(outcome.status, 0) << outcome.said;
}

TEST(Seccomp, ThreadsSocketsFilesAndNamesWork) {
  const Outcome outcome = restricted([] {
    int failed = 0;
    std::thread([&] { failed += ::socket(AF_INET6, SOCK_STREAM, 0) < 0 ? 1 : 0; }).join();
    addrinfo* found = nullptr;
    failed += ::getaddrinfo("localhost", "80", nullptr, &found) == 0 ? 0 : 1;
    char path[] = "/tmp/sluice-seccomp.XXXXXX";
    const int fd = ::mkstemp(path);
    failed += fd >= 0 && ::write(fd, "x", 1) == 1 && ::fsync(fd) == 0 ? 0 : 1;
    failed += ::unlink(path);
    failed += static_cast<int>(refused_system_calls());
    return failed;
  });
  EXPECT_EQ(outcome.status, 0) << outcome.said;
  EXPECT_EQ(outcome.said, "");
}

}  // namespace
}  // namespace sluice::control
