// The guard's programs, one per entry, loaded when first asked for and pinned.
#pragma once

#include <array>
#include <cstdint>

#include "kernel/guard_entry.h"
#include "kernel/guard_maps.h"

namespace sluice::kernel {

class GuardPrograms {
 public:
  // `maps` and `pins` outlive the object. Notes the programs that an earlier keeper pinned.
  GuardPrograms(const GuardMaps& maps, const PinDirectory& pins);

  Result<int> get(GuardEntry entry);                   // the descriptor stays here
  Result<Descriptor> another(GuardEntry entry) const;  // one more, of the same maps

  // Of this object's program, or of the one that an earlier keeper pinned.
  bool is_ours(GuardEntry entry, std::uint32_t id) const;
  // Of the keeper that is being upgraded: its ABI, and so its pins, are of another version.
  bool is_another_versions(GuardEntry entry, std::uint32_t id) const;
  bool is_current(GuardEntry entry, std::uint32_t id) const;
  void remove_pins();

  static const char* pin_name(GuardEntry entry);

 private:
  struct Loaded {
    Descriptor program;
    std::uint32_t id = 0;
    std::uint32_t former_id = 0;  // 0: there was none
  };
  const Loaded& of(GuardEntry entry) const { return loaded_[static_cast<std::size_t>(entry)]; }

  const GuardMaps* maps_;
  const PinDirectory* pins_;
  std::array<Loaded, std::size(kGuardEntries)> loaded_;
};

}  // namespace sluice::kernel
