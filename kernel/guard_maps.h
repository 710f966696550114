// The guard's maps and program, loaded from the skeleton: pinned ones are used again, new ones
// pinned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "kernel/abi_guard.h"
#include "kernel/guard_tables.h"
#include "kernel/keeper.h"
#include "kernel/pins.h"

struct guard_bpf;

namespace sluice::kernel {

// A shared, writable view of a map.
template <typename T>
class MappedMap {
 public:
  MappedMap() = default;
  MappedMap(MappedMap&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedMap& operator=(MappedMap&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  MappedMap(const MappedMap&) = delete;
  MappedMap& operator=(const MappedMap&) = delete;
  ~MappedMap() { unmap(); }

  bool map(int fd, std::size_t bytes);
  T* get() const { return data_; }

 private:
  void unmap();

  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class GuardMaps {
 public:
  static Result<GuardMaps> open(const PinDirectory& pins);
  GuardMaps(GuardMaps&&) noexcept;
  GuardMaps& operator=(GuardMaps&&) = delete;
  GuardMaps(const GuardMaps&) = delete;
  GuardMaps& operator=(const GuardMaps&) = delete;
  ~GuardMaps();

  guard_bpf& program() const { return *skeleton_; }
  int program_fd() const;
  sluice_guard_state* state() const { return state_.get(); }

  std::uint32_t slot_in_force() const;
  std::uint32_t other_slot() const { return slot_in_force() ^ 1U; }
  // Fills the slot that no packet reads. Waits for grace periods.
  Result<void> fill_other_slot(const GuardTables& tables);
  void switch_slots(std::uint64_t generation);  // one store

  // Replaces what `slot` knows about the interfaces that protect entries name.
  Result<void> set_interfaces(std::uint32_t slot,
                              const std::vector<std::pair<unsigned, std::uint64_t>>& groups);

 private:
  struct CloseSkeleton {
    void operator()(guard_bpf* skeleton) const;
  };
  GuardMaps() = default;
  Result<void> wait_for_packets() const;

  std::unique_ptr<guard_bpf, CloseSkeleton> skeleton_;
  MappedMap<sluice_guard_state> state_;
  MappedMap<sluice_guard_port> ports_;
};

}  // namespace sluice::kernel
