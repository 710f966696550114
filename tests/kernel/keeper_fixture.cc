#include "tests/kernel/keeper_fixture.h"

#include <chrono>
#include <gtest/gtest.h>
#include <poll.h>
#include <thread>
#include <vector>

#include "kernel/sockets.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel::testing {

std::unique_ptr<Keeper> open_keeper() {
  auto keeper = Keeper::open({.pin_root = kPinRoot});
  EXPECT_TRUE(keeper) << (keeper ? "" : keeper.error().message);
  return keeper ? std::move(*keeper) : nullptr;
}

void put_in_force(Keeper& keeper, const Plan& plan) {
  const auto prepared = keeper.prepare(plan);
  ASSERT_TRUE(prepared) << prepared.error().message;
  const auto committed = keeper.commit();
  ASSERT_TRUE(committed) << committed.error().message;
}

Fd accept_any(const Keeper& keeper, std::uint32_t listener, WayIn way) {
  std::vector<pollfd> waiting;
  for (const auto& socket : keeper.sockets()) {
    if (socket.listener == listener && socket.way == way)
      waiting.push_back({.fd = socket.fd, .events = POLLIN, .revents = 0});
  }
  ::poll(waiting.data(), waiting.size(), 5000);
  for (const auto& one : waiting) {
    if (one.revents != 0) return accept_from(one.fd);
  }
  return {};
}

std::uint16_t port_of(int fd) {
  return kernel::port_of(fd);
}

double sample(const Keeper& keeper, const std::string& name, const std::string& label) {
  for (const auto& sample : keeper.samples()) {
    if (sample.name == name && (label.empty() || sample.labels.front().second == label))
      return sample.value;
  }
  return -1;
}

void wait_until_gone(const std::string& lease) {
  for (int i = 0; i < 100; i++) {
    if (shell("nft list set inet sluice " + lease).find("tcp") == std::string::npos) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  FAIL() << "the lease never ran out";
}

}  // namespace sluice::kernel::testing
