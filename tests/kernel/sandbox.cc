#include "tests/kernel/sandbox.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/prefix_text.h"

namespace sluice::kernel::testing {
namespace {

constexpr const char* kMountPoint = "/tmp/.sluice-test-bpf";

bool enter_namespaces() {
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return false;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  ::mkdir(kMountPoint, 0700);
  return ::mount("bpf", kMountPoint, "bpf", 0, nullptr) == 0;
}

[[noreturn]] void run_child(const std::function<void()>& body) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!enter_namespaces()) {
    std::perror("sandbox (needs root)");
    std::_Exit(2);
  }
  shell("ip link set lo up");
  body();
  std::fflush(nullptr);
  std::_Exit(::testing::Test::HasFailure() ? 1 : 0);
}

}  // namespace

void in_sandbox(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) run_child(body);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << "the sandbox ended with status " << status;
}

std::string shell(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen(("set -e; " + command).c_str(), "r");
  if (!pipe) {
    ADD_FAILURE() << "cannot run " << command;
    return output;
  }
  char buffer[4096];
  for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;)
    output.append(buffer, got);
  const int status = ::pclose(pipe);
  EXPECT_EQ(status, 0) << command << "\n" << output;
  return output;
}

bool kernel_has_tcx() {
  constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
  __u32 count = 0;
  return bpf_prog_query(static_cast<int>(if_nametoindex("lo")), kTcxIngress, 0, nullptr, nullptr,
                        &count) == 0;
}

Prefix prefix(const std::string& text) {
  const auto slash = text.find('/');
  const std::string address = text.substr(0, slash);
  Prefix result;
  std::uint8_t v4[4];
  if (::inet_pton(AF_INET, address.c_str(), v4) == 1) {
    result = all_of_v4();
    std::memcpy(result.address.data() + 12, v4, 4);
    result.length = static_cast<std::uint8_t>(
        slash == std::string::npos ? 128 : 96 + std::stoi(text.substr(slash + 1)));
  } else {
    EXPECT_EQ(::inet_pton(AF_INET6, address.c_str(), result.address.data()), 1) << text;
    result.length = static_cast<std::uint8_t>(
        slash == std::string::npos ? 128 : std::stoi(text.substr(slash + 1)));
  }
  return result;
}

std::vector<Prefix> prefixes(const std::vector<std::string>& texts) {
  std::vector<Prefix> result;
  for (const auto& text : texts)
    result.push_back(prefix(text));
  return result;
}

Plan plan_with(const std::vector<std::string>& listeners, std::uint32_t workers) {
  Plan plan;
  plan.generation = 1;
  plan.workers = workers;
  for (const auto& name : listeners)
    plan.listeners.push_back({.name = name, .bind_address = {}, .bind_port = 0});
  return plan;
}

Intercept entry(WayIn way, const std::vector<std::string>& to, std::vector<PortRange> ports,
                std::uint32_t listener) {
  Intercept intercept;
  intercept.way = way;
  intercept.to = prefixes(to);
  intercept.ports = std::move(ports);
  intercept.listener = listener;
  intercept.where = "policy.yaml:1:1";
  return intercept;
}

}  // namespace sluice::kernel::testing
