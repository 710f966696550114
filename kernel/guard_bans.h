// Bans: a hash in the kernel, which is the truth, and an index of when each one ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/keeper.h"
#include "kernel/pins.h"
#include "kernel/plan.h"

namespace sluice::kernel {

class GuardBans {
 public:
  // Adopts the pinned table, or makes one. `outer_map` (guard_ban_table), `state` and `gate` (of
  // SLUICE_GUARD_BAN_GATE_WORDS) outlive the object.
  static Result<GuardBans> open(const PinDirectory& pins, int outer_map, sluice_guard_state* state,
                                std::uint64_t* gate);

  // Room for `capacity` bans; copies those there are into a new table when it must grow. Waits for
  // a grace period then. With less than there are now, none ends, and no new one begins.
  Result<void> set_capacity(std::uint32_t capacity);

  // `source` masked; never /0.
  Result<void> add(const Prefix& source, std::chrono::nanoseconds duration,
                   const std::string& reason);
  Result<bool> remove(const Prefix& source);
  bool lasts(const Prefix& source, std::chrono::nanoseconds duration) const;
  std::vector<Ban> list() const;
  void sweep();  // forgets those that ran out

  std::size_t size() const { return expiry_.size(); }
  std::uint32_t capacity() const { return capacity_; }
  std::uint64_t not_inserted() const { return not_inserted_; }  // the table was full

 private:
  GuardBans(const PinDirectory& pins, int outer_map, sluice_guard_state* state, std::uint64_t* gate)
      : pins_(&pins), outer_map_(outer_map), state_(state), gate_(gate) {}
  Result<void> use(Descriptor table, bool pin);
  void load();  // from the table
  void publish_lengths() const;
  void open_gate(const Prefix& source) const;
  void close_gates();  // of those that are gone, when there are many
  Result<void> check_room(const Prefix& source) const;
  void remember(const Prefix& source, std::uint64_t expires);
  void forget(const Prefix& source);

  const PinDirectory* pins_;
  int outer_map_;
  sluice_guard_state* state_;
  std::uint64_t* gate_;
  std::size_t gone_ = 0;  // since the gate was made anew
  std::uint64_t not_inserted_ = 0;
  Descriptor table_;
  std::uint32_t table_size_ = 0;  // entries that the kernel's map takes
  std::uint32_t capacity_ = 0;    // that the policy allows
  bool in_force_ = false;         // the first plan has come
  std::map<Prefix, std::uint64_t> expiry_;
  std::set<std::pair<std::uint64_t, Prefix>> by_expiry_;
  std::map<std::pair<bool, std::uint8_t>, std::uint32_t> lengths_;  // (IPv4, length): how many
};

// CLOCK_MONOTONIC. The program reads the same clock to a tick (4 ms at 250 Hz).
std::uint64_t monotonic_ns();

}  // namespace sluice::kernel
