// The guard's maps and programs, loaded from the skeleton: pinned maps are used again, new ones
// pinned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/guard_entry.h"
#include "kernel/guard_places.h"
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

  bool map(int fd, std::size_t bytes);  // of the map's first values
  T* get() const { return data_; }

 private:
  void unmap();

  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// What a map holds, for people who watch it fill.
struct MapUse {
  std::string map;
  double entries = 0;
  double capacity = 0;
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
  // A program of its own over the same maps, each time. About 100 ms.
  Result<Descriptor> load(GuardEntry entry) const;
  sluice_guard_state* state() const { return state_.get(); }

  std::uint32_t slot_in_force() const;
  std::uint32_t other_slot() const { return slot_in_force() ^ 1U; }
  // Fills the slot that no packet reads. Waits for grace periods.
  Result<void> fill_other_slot(const GuardTables& tables);
  void switch_slots(std::uint64_t generation);  // one store
  // Frees what the last switch left behind. Waits for grace periods.
  Result<void> empty_other_slot();

  // Makes the tables of SYN buckets that a slot with these flags needs.
  Result<void> make_syn_tables(std::uint32_t flags);

  // Replaces what `slot` knows about the interfaces that protect entries name.
  Result<void> set_interfaces(std::uint32_t slot,
                              const std::vector<std::pair<unsigned, std::uint64_t>>& groups);
  // Likewise about the interfaces that rules name.
  Result<void> set_places(std::uint32_t slot, const std::vector<GuardPlaces::Entry>& entries);

  std::vector<MapUse> use() const;  // walks tables of up to 65,536 entries: some ms

 private:
  struct CloseSkeleton {
    void operator()(guard_bpf* skeleton) const;
  };
  explicit GuardMaps(const PinDirectory& pins) : pins_(&pins) {}
  Result<void> place_prefixes(std::uint32_t slot, const GuardTables& tables);

  const PinDirectory* pins_;
  std::unique_ptr<guard_bpf, CloseSkeleton> skeleton_;
  Descriptor sources_;
  Descriptor services_;
  std::array<std::vector<MapUse>, SLUICE_SLOTS> slot_use_;  // of what was filled by this process
  bool other_is_empty_ = false;
  MappedMap<sluice_guard_state> state_;
  MappedMap<sluice_guard_port> ports_;
};

}  // namespace sluice::kernel
