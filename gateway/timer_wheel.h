// Timeouts of one worker: a hierarchical wheel (Varghese and Lauck, 1987) with intrusive nodes.
// Arming, re-arming and cancelling are O(1), allocate nothing and, in the steady state, make no
// system call.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include <boost/asio/io_context.hpp>

namespace sluice::gateway {

using SteadyTime = std::chrono::steady_clock::time_point;

class TimerSlots;

// One timeout, a member of whatever waits. Cancels itself when destroyed; does not move. Usage:
//   WheelTimer timer_ = WheelTimer::calling<&Relay::on_idle>(this);
class WheelTimer {
 public:
  using Handler = void (*)(void* owner);

  WheelTimer(Handler handler, void* owner) : handler_(handler), owner_(owner) {}
  template <auto Method, typename Owner>
  static WheelTimer calling(Owner* owner) {
    return WheelTimer([](void* object) { (static_cast<Owner*>(object)->*Method)(); }, owner);
  }
  ~WheelTimer() { cancel(); }
  WheelTimer(const WheelTimer&) = delete;
  WheelTimer& operator=(const WheelTimer&) = delete;

  bool armed() const { return slots_ != nullptr; }
  // When it will fire, rounded up to the wheel's tick; only while armed.
  SteadyTime deadline() const;
  void cancel();  // harmless when not armed

 private:
  friend class TimerSlots;

  WheelTimer* next_ = nullptr;
  WheelTimer** previous_ = nullptr;  // the pointer that points here
  TimerSlots* slots_ = nullptr;
  std::uint64_t due_ = 0;  // tick at which to fire
  std::uint64_t placed_ =
      0;  // tick by which its slot is looked at; <= due_: moving a deadline later is a store
  Handler handler_;
  void* owner_;
};

// The wheel itself, without a clock: 256 slots of a tick, then 64 of 256 ticks, 64 of 16,384 and 64
// of 2^20 (7.7 days; longer ones are looked at again then).
class TimerSlots {
 public:
  static constexpr std::chrono::milliseconds kTick{10};

  explicit TimerSlots(SteadyTime start);
  ~TimerSlots();  // what is still armed is cancelled
  TimerSlots(const TimerSlots&) = delete;
  TimerSlots& operator=(const TimerSlots&) = delete;

  // Fires at `deadline` rounded up to a tick, or at the next tick if that is past. Replaces an
  // earlier deadline.
  void arm(WheelTimer& timer, SteadyTime deadline);
  // Fires all that is due; handlers may arm and cancel any timer, and destroy their owner. Returns
  // how many fired.
  std::size_t advance(SteadyTime now);
  // When advance() next has something to do; never later than the earliest deadline. Nullopt:
  // nothing is armed.
  std::optional<SteadyTime> next_wake() const;
  std::size_t armed() const { return armed_; }

 private:
  friend class WheelTimer;
  static constexpr std::size_t kLevels = 4;
  static constexpr std::size_t kFirstBits = 8;
  static constexpr std::size_t kBits = 6;

  struct Level {
    std::array<WheelTimer*, 1 << kFirstBits> slots{};
    std::array<std::uint64_t, (1 << kFirstBits) / 64>
        occupied{};  // a bit for each slot that may hold a timer
  };

  static constexpr std::size_t shift(std::size_t level) {
    return level == 0 ? 0 : kFirstBits + (level - 1) * kBits;
  }
  static constexpr std::size_t size(std::size_t level) {
    return std::size_t{1} << (level == 0 ? kFirstBits : kBits);
  }

  std::uint64_t tick_at_or_after(SteadyTime time) const;
  SteadyTime time_of(std::uint64_t tick) const;
  void place(WheelTimer& timer);
  void unlink(WheelTimer& timer);
  WheelTimer* take_slot(std::size_t level, std::size_t index);
  std::optional<std::uint64_t> next_in_level(std::size_t level) const;
  std::optional<std::uint64_t> next_tick() const;
  std::size_t run_tick() noexcept;  // handlers do not throw

  SteadyTime start_;
  std::uint64_t current_ = 0;  // all ticks up to this one have been run
  std::size_t armed_ = 0;
  std::array<Level, kLevels> levels_;
};

// The wheel of one worker, driven by one Asio timer that waits only while something is armed. Not
// thread safe.
class TimerWheel {
 public:
  explicit TimerWheel(boost::asio::io_context& io);
  ~TimerWheel();  // timers that are still armed never fire
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // The time to a few milliseconds (CLOCK_MONOTONIC_COARSE: no system call, a few ns); on
  // steady_clock's scale and never before a deadline whose timer has fired. For latencies that are
  // measured, read steady_clock.
  SteadyTime now() const;

  // Never fires before `after` has passed, as long as the kernel's ticks come in time: what now()
  // then may lag is added. Where a millisecond too early matters: arm_at() by an exact clock.
  void arm(WheelTimer& timer, std::chrono::nanoseconds after) {
    arm_at(timer, now() + lag_ + after);
  }
  void arm_at(WheelTimer& timer, SteadyTime deadline);
  void cancel(WheelTimer& timer) { timer.cancel(); }

  std::size_t armed() const;

  // Waits no longer, so that io_context::run() can return; what is armed does not fire until the
  // next arm().
  void pause();

 private:
  struct Driver;
  const std::chrono::nanoseconds lag_;  // most that now() is behind: the coarse clock's resolution
  std::shared_ptr<Driver> driver_;      // shared with the wait that is under way
};

}  // namespace sluice::gateway
