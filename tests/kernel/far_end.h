// A peer for the guard on real interfaces.
#pragma once

#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel::testing {

// Another namespace at the far end of a veth pair, 10.7.0.1 here and 10.7.0.2 there. The namespace
// is that of a sleeping child, so that it needs no name and goes with it.
class FarEnd {
 public:
  explicit FarEnd(const std::string& name = "near0") : name_(name) {
    pid_ = std::stoi(shell("unshare -n sleep 300 >/dev/null 2>&1 & echo $!"));
    for (int i = 0; i < 500 && same_namespace(); ++i)
      ::usleep(10'000);
    plug();
  }
  ~FarEnd() { shell("kill " + std::to_string(pid_)); }
  FarEnd(const FarEnd&) = delete;
  FarEnd& operator=(const FarEnd&) = delete;

  void plug() const {
    shell("ip link add " + name_ + " type veth peer name far0 netns " + std::to_string(pid_));
    shell("ip addr add 10.7.0.1/24 dev " + name_ + "; ip addr add 10.7.1.1/24 dev " + name_ +
          "; ip addr add 2001:db8:7::1/64 nodad dev " + name_ + "; ip link set " + name_ + " up");
    there(
        "ip addr add 10.7.0.2/24 dev far0; ip addr add 10.7.0.3/24 dev far0; ip addr add "
        "2001:db8:7::2/64 nodad dev far0; "
        "ip link set far0 up");
  }
  std::string there(const std::string& command) const {
    return shell("nsenter --net=/proc/" + std::to_string(pid_) + "/ns/net sh -c '" + command + "'");
  }
  bool answers(const std::string& from, const std::string& to = "10.7.0.1") const {
    return there("ping -n -c 1 -W 1 -I " + from + " " + to +
                 " >/dev/null 2>&1 && echo yes || echo no") == "yes\n";
  }
  // Of a link that has just come up: its neighbours may have to be found first.
  bool answers_soon(const std::string& from) const {
    for (int tries = 0; tries < 10; ++tries)
      if (answers(from)) return true;
    return false;
  }

 private:
  bool same_namespace() const {
    return shell("readlink /proc/self/ns/net") ==
           shell("readlink /proc/" + std::to_string(pid_) + "/ns/net");
  }
  std::string name_;
  int pid_ = 0;
};

inline GuardPlan on(std::vector<std::string> interfaces, std::vector<GuardRule> rules) {
  GuardPlan plan = guard_plan(std::move(rules));
  plan.interfaces = std::move(interfaces);
  return plan;
}

inline void tick(RunningGuard& running) {
  const auto done = running.guard->tick();
  EXPECT_TRUE(done) << done.error().message;
}

}  // namespace sluice::kernel::testing
