#include "gateway/timer_wheel.h"

#include <algorithm>
#include <bit>
#include <time.h>

#include <boost/asio/basic_waitable_timer.hpp>

namespace sluice::gateway {

// --- WheelTimer ----------------------------------------------------------------------------------

SteadyTime WheelTimer::deadline() const {
  return slots_->time_of(due_);
}

void WheelTimer::cancel() {
  if (!slots_) return;
  slots_->unlink(*this);
  --slots_->armed_;
  slots_ = nullptr;
}

// --- TimerSlots ----------------------------------------------------------------------------------

TimerSlots::TimerSlots(SteadyTime start) : start_(start) {}

TimerSlots::~TimerSlots() {
  for (Level& level : levels_) {
    for (WheelTimer*& slot : level.slots) {
      while (slot)
        slot->cancel();
    }
  }
}

std::uint64_t TimerSlots::tick_at_or_after(SteadyTime time) const {
  if (time <= start_) return 0;
  const auto elapsed = time - start_;
  const std::chrono::nanoseconds tick = kTick;
  return static_cast<std::uint64_t>(elapsed / tick) + (elapsed % tick != tick.zero() ? 1 : 0);
}

SteadyTime TimerSlots::time_of(std::uint64_t tick) const {
  return start_ + kTick * tick;
}

void TimerSlots::arm(WheelTimer& timer, SteadyTime deadline) {
  const std::uint64_t due = std::max(tick_at_or_after(deadline), current_ + 1);
  if (timer.slots_ == this && due >= timer.placed_) {
    timer.due_ = due;  // its slot is looked at in time, and finds it moved
    return;
  }
  timer.cancel();
  timer.slots_ = this;
  timer.due_ = due;
  ++armed_;
  place(timer);
}

// Into the lowest level that reaches its tick. A slot of a higher level is emptied into lower ones
// when its first tick comes.
void TimerSlots::place(WheelTimer& timer) {
  constexpr std::size_t kTop = kLevels - 1;
  constexpr std::uint64_t kHorizon = std::uint64_t{1} << (shift(kTop) + kBits);
  const std::uint64_t tick = std::min(timer.due_, current_ + kHorizon - 1);
  const std::uint64_t ahead = tick - current_;
  std::size_t level = 0;
  while (ahead >= size(level) << shift(level))
    ++level;
  const std::uint64_t unit = tick >> shift(level);
  const std::size_t index = unit & (size(level) - 1);
  timer.placed_ = unit << shift(level);

  WheelTimer*& head = levels_[level].slots[index];
  timer.next_ = head;
  timer.previous_ = &head;
  if (head) head->previous_ = &timer.next_;
  head = &timer;
  levels_[level].occupied[index / 64] |= std::uint64_t{1} << (index % 64);
}

void TimerSlots::unlink(WheelTimer& timer) {
  *timer.previous_ = timer.next_;
  if (timer.next_) timer.next_->previous_ = timer.previous_;
  timer.next_ = nullptr;
  timer.previous_ = nullptr;
}

WheelTimer* TimerSlots::take_slot(std::size_t level, std::size_t index) {
  levels_[level].occupied[index / 64] &= ~(std::uint64_t{1} << (index % 64));
  return std::exchange(levels_[level].slots[index], nullptr);
}

// The first tick after current_ at which an occupied slot of this level is due.
std::optional<std::uint64_t> TimerSlots::next_in_level(std::size_t level) const {
  const std::uint64_t unit = (current_ >> shift(level)) + 1;
  const std::size_t slots = size(level);
  const auto& occupied = levels_[level].occupied;
  for (std::size_t scanned = 0; scanned < slots;) {
    const std::size_t index = (unit + scanned) & (slots - 1);
    const std::uint64_t word = occupied[index / 64] >> (index % 64);
    if (word != 0) {
      scanned += static_cast<std::size_t>(std::countr_zero(word));
      // Beyond one turn are the slots before the start, seen in the first word's low bits already.
      return (unit + scanned) << shift(level);
    }
    scanned += 64 - index % 64;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> TimerSlots::next_tick() const {
  if (armed_ == 0) return std::nullopt;
  std::optional<std::uint64_t> earliest;
  for (std::size_t level = 0; level < kLevels; ++level) {
    const auto tick = next_in_level(level);
    if (tick && (!earliest || *tick < *earliest)) earliest = tick;
  }
  return earliest;
}

std::optional<SteadyTime> TimerSlots::next_wake() const {
  const auto tick = next_tick();
  if (!tick) return std::nullopt;
  return time_of(*tick);
}

std::size_t TimerSlots::advance(SteadyTime now) {
  if (now < start_) return 0;
  const std::chrono::nanoseconds tick = kTick;
  const auto target = static_cast<std::uint64_t>((now - start_) / tick);
  std::size_t fired = 0;
  for (auto next = next_tick(); next && *next <= target; next = next_tick()) {
    current_ = *next;
    fired += run_tick();
  }
  current_ = std::max(current_, target);
  return fired;
}

std::size_t TimerSlots::run_tick() noexcept {
  for (std::size_t level = kLevels - 1; level > 0; --level) {
    if ((current_ & ((std::uint64_t{1} << shift(level)) - 1)) != 0) continue;
    WheelTimer* list = take_slot(level, (current_ >> shift(level)) & (size(level) - 1));
    while (list) {
      WheelTimer& timer = *std::exchange(list, list->next_);
      place(timer);
    }
  }
  // A handler may cancel any of the others, so each one leaves the list by itself.
  WheelTimer* due = take_slot(0, current_ & (size(0) - 1));
  if (due) due->previous_ = &due;
  std::size_t fired = 0;
  while (due) {
    WheelTimer& timer = *due;
    unlink(timer);
    if (timer.due_ > current_) {
      place(timer);
      continue;
    }
    timer.slots_ = nullptr;
    --armed_;
    ++fired;
    timer.handler_(timer.owner_);
  }
  return fired;
}

// --- TimerWheel ----------------------------------------------------------------------------------

struct TimerWheel::Driver : std::enable_shared_from_this<TimerWheel::Driver> {
  using AsioTimer =
      boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                        boost::asio::wait_traits<std::chrono::steady_clock>,
                                        boost::asio::io_context::executor_type>;

  explicit Driver(boost::asio::io_context& io)
      : timer(io.get_executor()), last(std::chrono::steady_clock::now()), slots(last) {}

  void wait_until(SteadyTime wake) {
    waiting_for = wake;
    timer.expires_at(wake);
    timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (!error && self->open) self->wake();
    });
  }

  void wake() {
    waiting_for.reset();
    last = std::chrono::steady_clock::now();
    running = true;
    slots.advance(last);
    running = false;
    if (const auto next = slots.next_wake()) wait_until(*next);
  }

  AsioTimer timer;
  SteadyTime last;  // of the last advance: the coarse clock may still be before it
  TimerSlots slots;
  std::optional<SteadyTime> waiting_for;
  bool running = false;
  bool open = true;
};

namespace {
std::chrono::nanoseconds coarse_resolution() {
  timespec step{};
  clock_getres(CLOCK_MONOTONIC_COARSE, &step);
  return std::chrono::seconds(step.tv_sec) + std::chrono::nanoseconds(step.tv_nsec);
}
}  // namespace

TimerWheel::TimerWheel(boost::asio::io_context& io)
    : lag_(coarse_resolution()), driver_(std::make_shared<Driver>(io)) {}

TimerWheel::~TimerWheel() {
  driver_->open = false;
  driver_->timer.cancel();
}

SteadyTime TimerWheel::now() const {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  const SteadyTime coarse(std::chrono::seconds(time.tv_sec) +
                          std::chrono::nanoseconds(time.tv_nsec));
  return std::max(coarse, driver_->last);
}

void TimerWheel::arm_at(WheelTimer& timer, SteadyTime deadline) {
  Driver& driver = *driver_;
  driver.slots.arm(timer, deadline);
  if (driver.running || (driver.waiting_for && *driver.waiting_for <= deadline)) return;
  if (const auto wake = driver.slots.next_wake()) driver.wait_until(*wake);
}

std::size_t TimerWheel::armed() const {
  return driver_->slots.armed();
}

void TimerWheel::pause() {
  driver_->waiting_for.reset();
  driver_->timer.cancel();
}

}  // namespace sluice::gateway
