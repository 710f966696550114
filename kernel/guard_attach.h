// Where the guard hangs: XDP links, tcx links, or clsact filters; links are pinned, one per
// interface and entry.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernel/guard.h"
#include "kernel/guard_entry.h"
#include "kernel/guard_programs.h"
#include "kernel/interfaces.h"
#include "kernel/keeper.h"
#include "kernel/pins.h"

namespace sluice::kernel {

// What a plan asks for.
struct GuardSites {
  std::vector<Interface> ingress;
  std::vector<Interface> egress;
  GuardHook hook = GuardHook::tc;  // of ingress; egress is always TC's
  bool first = true;               // before other people's TC programs
};

class GuardAttachment {
 public:
  // Finds the links that an earlier keeper left, gives those that still hang the new program in
  // place, and removes those whose interface is gone. `pins` and `maps` outlive the object.
  static Result<GuardAttachment> open(const PinDirectory& pins, GuardAttach how,
                                      const GuardMaps& maps);

  // Loads the programs that `hook` needs, so that attach() cannot fail for their sake.
  Result<void> load_for(GuardHook hook, bool egress);

  // Attaches to all of `sites` that lack it, and moves what stands on the wrong side of others.
  // `all_or_none`: on an error what was attached now is taken back; otherwise the rest is done, and
  // the error is the first one.
  Result<void> attach(const GuardSites& sites, bool all_or_none);
  void detach_others(const GuardSites& sites);  // from all that are not named
  // Notices links that somebody else took away or whose interface went; attach() brings them back.
  void forget_severed();

  std::vector<std::string> remove();  // detaches everywhere and removes the pins
  std::vector<std::pair<unsigned, GuardEntry>> list() const;
  static const char* entry_name(GuardEntry entry);  // "ingress", "egress", "xdp"

 private:
  using Key = std::pair<unsigned, GuardEntry>;  // interface
  struct Attached {
    Descriptor link;            // invalid: a clsact filter
    std::optional<bool> first;  // of TC; absent: not known, and fits
    bool generic = false;       // of XDP
  };
  GuardAttachment(const PinDirectory& pins, GuardAttach how, const GuardMaps& maps)
      : pins_(&pins), maps_(&maps), how_(how), programs_(maps, pins) {}
  Result<void> adopt_links();
  Result<void> adopt_filters();
  bool hangs(const Key& key, const Attached& attached) const;
  bool fits(const Attached& attached, GuardEntry entry, const GuardSites& sites) const;
  std::expected<Attached, AttachError> attach_one(const Interface& where, GuardEntry entry,
                                                  const GuardSites& sites);
  std::expected<Attached, AttachError> attach_tc(int program, const Interface& where,
                                                 GuardEntry entry, bool first);
  std::expected<Attached, AttachError> replace(const Interface& where, GuardEntry entry,
                                               const GuardSites& sites);
  void detach(const Key& key, Attached& attached) const;
  void forget(const Key& key);

  void note_frames(const GuardSites& sites) const;

  const PinDirectory* pins_;
  const GuardMaps* maps_;
  GuardAttach how_;
  GuardPrograms programs_;
  std::map<Key, Attached> attached_;
};

// The pin of the guard's TC link at ingress of an interface; there is none where it does not hang.
std::string guard_link_pin(unsigned interface_index);

// Takes the guard off this network namespace without an object. Each line says what was removed.
std::vector<std::string> detach_pinned_guard(const std::string& pin_directory);

}  // namespace sluice::kernel
