// The guard's maps and programs, loaded from the skeleton: pinned maps are used again, new ones
// pinned.
#pragma once

#include <array>
#include <cstdint>
#include <linux/bpf.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/guard_entry.h"
#include "kernel/guard_places.h"
#include "kernel/guard_tables.h"
#include "kernel/keeper.h"
#include "kernel/mapped_map.h"
#include "kernel/pins.h"

struct guard_bpf;

namespace sluice::kernel {

class Placing;

// What a map holds, for people who watch it fill.
struct MapUse {
  std::string map;
  double entries = 0;
  double capacity = 0;
  std::optional<double> failures{};  // entries that it did not take; absent: counted elsewhere
};

// Inner maps that are made when a plan first asks for them, and stay.
struct LazyTable {
  enum Table : std::uint8_t { syn_sources, syn_services, seen_services, seen_sources, count };
  Table table;
  std::uint32_t flag;  // of the slot that asks for it
  const char* pin;
  const char* shown;  // in metrics
  const char* outer;  // the map of maps, and the place in it
  std::uint32_t index;
  bpf_map_type type;
  std::uint32_t key_size;
  std::uint32_t value_size;
  std::uint32_t size;
};
inline constexpr LazyTable kLazyTables[] = {
    {LazyTable::syn_sources, SLUICE_GUARD_USES_SOURCE_SYN, "guard_sources", "guard_syn_sources",
     "guard_source_table", 0, BPF_MAP_TYPE_LRU_HASH, sizeof(sluice_guard_source_key),
     sizeof(std::uint64_t), SLUICE_GUARD_MAX_SOURCES},
    {LazyTable::syn_services, SLUICE_GUARD_USES_SERVICE_SYN, "guard_services", "guard_syn_services",
     "guard_service_table", 0, BPF_MAP_TYPE_LRU_HASH, sizeof(sluice_guard_service_key),
     sizeof(std::uint64_t), SLUICE_GUARD_MAX_SERVICES},
    {LazyTable::seen_services, SLUICE_GUARD_MONITORS_SERVICES, "guard_seen_services",
     "guard_monitor_services", "guard_monitor_table", SLUICE_GUARD_MONITOR_SERVICES,
     BPF_MAP_TYPE_LRU_PERCPU_HASH, sizeof(sluice_guard_service_key), sizeof(sluice_guard_seen),
     SLUICE_GUARD_MAX_MONITORED},
    {LazyTable::seen_sources, SLUICE_GUARD_MONITORS_SOURCES, "guard_seen_sources",
     "guard_monitor_sources", "guard_monitor_table", SLUICE_GUARD_MONITOR_SOURCES,
     BPF_MAP_TYPE_LRU_PERCPU_HASH, sizeof(sluice_guard_service_key), sizeof(sluice_guard_seen),
     SLUICE_GUARD_MAX_MONITORED},
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
  std::uint64_t* ban_gate() const { return ban_gate_.get(); }  // SLUICE_GUARD_BAN_GATE_WORDS

  std::uint32_t slot_in_force() const;
  // While a trial lasts (switch_slots()), moves its end: from `when_ns` (CLOCK_MONOTONIC) on the
  // slot before is in force again, whether or not this process lives.
  void revert_at(std::uint64_t when_ns);
  bool revert_armed() const;  // an end was set for the slot that was switched to last
  bool has_reverted() const;  // and it has come
  // Ends a trial: its reversal becomes lasting, or never comes.
  void settle_reversal(bool reverted);
  std::uint32_t other_slot() const { return slot_in_force() ^ 1U; }
  // Fills the slot that no packet reads. Waits for grace periods.
  Result<void> fill_other_slot(const GuardTables& tables);
  // One store. `revert_at_ns`: on trial until then; 0: for good.
  void switch_slots(std::uint64_t generation, std::uint64_t revert_at_ns = 0);
  // Frees what the last switch left behind. Waits for grace periods.
  Result<void> empty_other_slot();

  // Whether `protect` of the slot in force, as the kernel has it, spares all of `source` at every
  // port and interface. Takes CAP_SYS_ADMIN.
  Result<bool> spares(const Prefix& source) const;

  // -1: no plan has asked for it yet.
  int table(LazyTable::Table table) const { return tables_[table].get(); }

  // Replaces what `slot` knows about the interfaces that protect entries name.
  Result<void> set_interfaces(std::uint32_t slot,
                              const std::vector<std::pair<unsigned, std::uint64_t>>& groups);
  // Likewise about the interfaces that rules name.
  Result<void> set_places(std::uint32_t slot, const std::vector<GuardPlaces::Entry>& entries);

  // An entry that the map `shown` in metrics by that name did not take.
  void note_failure(const std::string& shown) { ++failures_[shown]; }

  std::vector<MapUse> use() const;  // walks tables of up to 65,536 entries: some ms

 private:
  struct CloseSkeleton {
    void operator()(guard_bpf* skeleton) const;
  };
  explicit GuardMaps(const PinDirectory& pins) : pins_(&pins) {}
  void put_prefixes(std::uint32_t slot, const GuardTables& tables, Placing& to) const;
  Result<void> make_tables(std::uint32_t flags);  // that a slot with these flags needs
  Result<void> make_table(const LazyTable& kind);

  const PinDirectory* pins_;
  std::unique_ptr<guard_bpf, CloseSkeleton> skeleton_;
  std::array<Descriptor, LazyTable::count> tables_;
  std::map<std::string, double> failures_;
  std::array<std::vector<MapUse>, SLUICE_SLOTS> slot_use_;  // of what was filled by this process
  bool other_is_empty_ = false;
  MappedMap<sluice_guard_state> state_;
  MappedMap<sluice_guard_port> ports_;
  MappedMap<std::uint64_t> ban_gate_;
};

}  // namespace sluice::kernel
