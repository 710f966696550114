#include "gateway/main/short_turns.h"

#include <array>
#include <cstdint>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace sluice::control {
namespace {

struct Turns {
  std::uint32_t policy = 0;
  std::int32_t nice = 0;
  std::uint64_t length_ns = 0;  // 0 before Linux 6.12
};

// struct sched_attr of <linux/sched/types.h>: size and policy, flags, nice and priority, runtime.
Turns turns() {
  std::array<std::uint64_t, 7> attributes{};
  EXPECT_EQ(::syscall(SYS_sched_getattr, 0, attributes.data(), sizeof(attributes), 0U), 0);
  return {.policy = static_cast<std::uint32_t>(attributes[0] >> 32),
          .nice = static_cast<std::int32_t>(attributes[2]),
          .length_ns = attributes[3]};
}

TEST(ShortTurns, AreThoseOfTheThreadAlone) {
  std::thread([] {
    const Turns before = turns();
    take_short_turns();
    const Turns now = turns();
    EXPECT_EQ(now.policy, before.policy);
    EXPECT_EQ(now.nice, before.nice);
    if (before.length_ns != 0) EXPECT_EQ(now.length_ns, 100'000U);
    std::thread([&] { EXPECT_EQ(turns().length_ns, before.length_ns) << "a worker"; }).join();
  }).join();
}

}  // namespace
}  // namespace sluice::control
