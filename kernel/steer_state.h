// Which of the two slots the programs of steering read. One map value, in memory of both.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/abi.h"

namespace sluice::kernel {

// `map`: steer_state, mappable. Keeper's thread.
class SteerState {
 public:
  explicit SteerState(int map)
      : memory_(::mmap(nullptr, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)),
                       PROT_READ | PROT_WRITE, MAP_SHARED, map, 0)) {}
  ~SteerState() {
    if (valid()) ::munmap(memory_, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
  }
  SteerState(const SteerState&) = delete;
  SteerState& operator=(const SteerState&) = delete;

  bool valid() const { return memory_ != MAP_FAILED; }
  std::uint64_t generation() const { return state().generation; }
  std::uint64_t epoch() const { return std::atomic_ref(state().epoch).load(); }
  std::uint32_t other_slot() const {
    return static_cast<std::uint32_t>((epoch() + 1) % SLUICE_SLOTS);
  }
  // One store: every program that starts after it reads the other slot.
  void flip(std::uint64_t generation) {
    state().generation = generation;
    std::atomic_ref(state().epoch).fetch_add(1);
  }

 private:
  sluice_state& state() const { return *static_cast<sluice_state*>(memory_); }
  void* memory_;
};

}  // namespace sluice::kernel
