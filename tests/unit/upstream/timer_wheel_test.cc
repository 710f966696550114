#include "gateway/timer_wheel.h"

#include <chrono>
#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <boost/asio/io_context.hpp>

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;

constexpr SteadyTime kStart{1000h};

struct Alarm {
  explicit Alarm(SteadyTime& clock) : now(&clock) {}
  void ring() {
    ++rings;
    rang_at = *now;
    if (on_ring) on_ring();
  }
  SteadyTime* now;
  int rings = 0;
  SteadyTime rang_at{};
  std::function<void()> on_ring;
  WheelTimer timer = WheelTimer::calling<&Alarm::ring>(this);
};

SteadyTime rounded_up(SteadyTime time) {
  const auto over = (time - kStart) % TimerSlots::kTick;
  return over.count() == 0 ? time : time + (TimerSlots::kTick - over);
}

// Steps of the clock and arms, re-arms, cancels at random, against a model that is just a list of
// deadlines.
void run_against_model(unsigned seed, std::chrono::nanoseconds longest_deadline,
                       std::chrono::nanoseconds longest_step) {
  std::mt19937_64 random(seed);
  SteadyTime now = kStart;
  TimerSlots slots(kStart);
  std::deque<Alarm> alarms;
  for (int i = 0; i < 200; ++i)
    alarms.emplace_back(now);
  std::vector<std::optional<SteadyTime>> model(alarms.size());
  std::vector<int> rings(alarms.size(), 0);

  for (int step = 0; step < 3000; ++step) {
    for (int change = 0; change < 10; ++change) {
      const std::size_t i = random() % alarms.size();
      if (random() % 4 == 0) {
        alarms[i].timer.cancel();
        model[i].reset();
      } else {
        const SteadyTime deadline =
            now + std::chrono::nanoseconds(random() % longest_deadline.count());
        slots.arm(alarms[i].timer, deadline);
        model[i] = std::max(rounded_up(deadline), rounded_up(now + 1ns));
        ASSERT_EQ(alarms[i].timer.deadline(), *model[i]);
      }
    }
    std::optional<SteadyTime> earliest;
    for (const auto& deadline : model) {
      if (deadline && (!earliest || *deadline < *earliest)) earliest = deadline;
    }
    ASSERT_EQ(slots.next_wake().has_value(), earliest.has_value());
    if (earliest) {
      ASSERT_LE(*slots.next_wake(), *earliest);
    }

    now += std::chrono::nanoseconds(random() % longest_step.count());
    std::size_t due = 0;
    for (std::size_t i = 0; i < model.size(); ++i) {
      if (!model[i] || *model[i] > now) continue;
      model[i].reset();
      ++rings[i];
      ++due;
    }
    ASSERT_EQ(slots.advance(now), due);
    std::size_t armed = 0;
    for (std::size_t i = 0; i < model.size(); ++i) {
      ASSERT_EQ(alarms[i].rings, rings[i]) << "timer " << i << " at step " << step;
      ASSERT_EQ(alarms[i].timer.armed(), model[i].has_value());
      armed += model[i].has_value();
    }
    ASSERT_EQ(slots.armed(), armed);
  }
}

TEST(TimerSlots, AgreesWithModelOnShortDeadlines) {
  run_against_model(1, 500ms, 30ms);
}
TEST(TimerSlots, AgreesWithModelOnMinutes) {
  run_against_model(2, 10min, 5s);
}
TEST(TimerSlots, AgreesWithModelOnHours) {
  run_against_model(3, 100h, 1h);
}
TEST(TimerSlots, AgreesWithModelBeyondItsHorizon) {
  run_against_model(4, 24h * 60, 24h);
}

TEST(TimerSlots, FiresAtTheTickAndNotBefore) {
  SteadyTime now = kStart;
  TimerSlots slots(kStart);
  Alarm alarm(now);
  slots.arm(alarm.timer, kStart + 25ms);
  EXPECT_EQ(slots.advance(kStart + 29ms), 0u);
  EXPECT_EQ(slots.advance(kStart + 30ms), 1u);
  EXPECT_FALSE(alarm.timer.armed());
  EXPECT_EQ(slots.advance(kStart + 10h), 0u);
}

TEST(TimerSlots, MovingADeadlineLaterAndEarlier) {
  SteadyTime now = kStart;
  TimerSlots slots(kStart);
  Alarm alarm(now);
  slots.arm(alarm.timer, kStart + 1s);
  slots.arm(alarm.timer, kStart + 60s);
  EXPECT_EQ(slots.advance(kStart + 59s), 0u);
  slots.arm(alarm.timer, kStart + 59s + 20ms);
  EXPECT_EQ(slots.advance(kStart + 59s + 20ms), 1u);
  EXPECT_EQ(slots.armed(), 0u);
}

TEST(TimerSlots, HandlersMayCancelAndRearmEachOther) {
  SteadyTime now = kStart;
  TimerSlots slots(kStart);
  Alarm a(now), b(now), c(now);
  // All three are due in one tick, in no promised order: whichever comes first cancels the other
  // two.
  const auto cancel_all = [&] {
    a.timer.cancel();
    b.timer.cancel();
    c.timer.cancel();
  };
  a.on_ring = b.on_ring = c.on_ring = cancel_all;
  for (Alarm* alarm : {&a, &b, &c})
    slots.arm(alarm->timer, kStart + 10ms);
  EXPECT_EQ(slots.advance(kStart + 20ms), 1u);
  EXPECT_EQ(a.rings + b.rings + c.rings, 1);
  EXPECT_EQ(slots.armed(), 0u);

  a.on_ring = [&] { slots.arm(a.timer, kStart + 1s); };
  slots.arm(a.timer, kStart + 30ms);
  EXPECT_EQ(slots.advance(kStart + 30ms), 1u);
  EXPECT_TRUE(a.timer.armed());
  EXPECT_EQ(slots.advance(kStart + 999ms), 0u);
}

struct Mayfly {
  explicit Mayfly(std::unique_ptr<Mayfly>& holder) : self(holder) {}
  void die() { self.reset(); }
  std::unique_ptr<Mayfly>& self;
  WheelTimer timer = WheelTimer::calling<&Mayfly::die>(this);
};

TEST(TimerSlots, AnOwnerMayDestroyItselfInItsHandler) {
  TimerSlots slots(kStart);
  std::unique_ptr<Mayfly> mayfly;
  mayfly = std::make_unique<Mayfly>(mayfly);
  slots.arm(mayfly->timer, kStart + 10ms);
  EXPECT_EQ(slots.advance(kStart + 10ms), 1u);
  EXPECT_EQ(mayfly, nullptr);
}

TEST(TimerSlots, TimersOutliveTheWheel) {
  SteadyTime now = kStart;
  Alarm alarm(now);
  {
    TimerSlots slots(kStart);
    slots.arm(alarm.timer, kStart + 10ms);
  }
  EXPECT_FALSE(alarm.timer.armed());
  alarm.timer.cancel();
}

TEST(TimerWheel, FiresOnTheIoContextAndThenWaitsNoLonger) {
  boost::asio::io_context io(1);
  TimerWheel wheel(io);
  SteadyTime unused{};
  Alarm soon(unused), later(unused), never(unused);
  std::vector<int> order;
  soon.on_ring = [&] { order.push_back(1); };
  later.on_ring = [&] { order.push_back(2); };
  wheel.arm(later.timer, 60ms);
  wheel.arm(soon.timer, 20ms);
  wheel.arm(never.timer, 1h);
  never.timer.cancel();
  const SteadyTime deadline = later.timer.deadline();
  io.run();  // returns because nothing is armed any more
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
  EXPECT_GE(wheel.now(), deadline);
  EXPECT_EQ(wheel.armed(), 0u);
}

TEST(TimerWheel, PauseLetsTheContextEnd) {
  boost::asio::io_context io(1);
  TimerWheel wheel(io);
  SteadyTime unused{};
  Alarm alarm(unused);
  wheel.arm(alarm.timer, 1h);
  io.poll();
  wheel.pause();
  io.restart();
  io.run();
  EXPECT_EQ(alarm.rings, 0);
}

TEST(TimerWheel, GoesAwayWhileItsWaitIsUnderWay) {
  boost::asio::io_context io(1);
  SteadyTime unused{};
  Alarm alarm(unused);
  {
    TimerWheel wheel(io);
    wheel.arm(alarm.timer, 10ms);
  }
  io.run();
  EXPECT_EQ(alarm.rings, 0);
}

}  // namespace
}  // namespace sluice::gateway
