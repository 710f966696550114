#include "kernel/guard_programs.h"

#include <algorithm>

namespace sluice::kernel {

const char* GuardPrograms::pin_name(GuardEntry entry) {
  switch (entry) {
    case GuardEntry::tc_egress:
      return "guard_program_egress";
    case GuardEntry::xdp:
      return "guard_program_xdp";
    case GuardEntry::tc_ingress:
      break;
  }
  return "guard_program";
}

GuardPrograms::GuardPrograms(const GuardMaps& maps, const PinDirectory& pins)
    : maps_(&maps), pins_(&pins) {
  for (const GuardEntry entry : kGuardEntries) {
    if (const Descriptor former = pins.get(pin_name(entry)))
      loaded_[static_cast<std::size_t>(entry)].former_id = program_id(former.get());
  }
}

Result<int> GuardPrograms::get(GuardEntry entry) {
  Loaded& loaded = loaded_[static_cast<std::size_t>(entry)];
  if (loaded.program) return loaded.program.get();
  auto program = maps_->load(entry);
  if (!program) return std::unexpected(program.error());
  // Pinned so that the next keeper, and `cleanup`, know our filters from others'.
  if (auto ok = pins_->pin(program->get(), pin_name(entry)); !ok)
    return std::unexpected(ok.error());
  loaded.program = std::move(*program);
  loaded.id = program_id(loaded.program.get());
  return loaded.program.get();
}

Result<Descriptor> GuardPrograms::another(GuardEntry entry) const {
  return maps_->load(entry);
}

bool GuardPrograms::is_ours(GuardEntry entry, std::uint32_t id) const {
  return id != 0 && (id == of(entry).id || id == of(entry).former_id);
}

bool GuardPrograms::is_another_versions(GuardEntry entry, std::uint32_t id) const {
  return std::ranges::any_of(pins_->of_other_versions(pin_name(entry)), [&](const Descriptor& program) {
    return program_id(program.get()) == id;
  });
}

bool GuardPrograms::is_current(GuardEntry entry, std::uint32_t id) const {
  return id != 0 && id == of(entry).id;
}

void GuardPrograms::remove_pins() {
  for (const GuardEntry entry : kGuardEntries)
    pins_->remove(pin_name(entry));
}

}  // namespace sluice::kernel
