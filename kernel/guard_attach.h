// Where the guard hangs: TC ingress by tcx links, pinned one per interface, or by clsact filters of
// our own.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernel/guard.h"
#include "kernel/interfaces.h"
#include "kernel/keeper.h"
#include "kernel/pins.h"

namespace sluice::kernel {

class GuardAttachment {
 public:
  // Finds the links that an earlier keeper left, gives those that still hang the new program in
  // place, and removes those whose interface is gone. `pins` and `program` outlive the object.
  static Result<GuardAttachment> open(const PinDirectory& pins, GuardAttach how, int program);

  // Attaches to all of `wanted` that lack it, or to none: on an error what was attached now is
  // taken back.
  Result<void> attach(const std::vector<Interface>& wanted, bool first);
  void detach_others(const std::vector<Interface>& wanted);  // from all that are not named
  // Notices links that somebody else took away or whose interface went; attach() brings them back.
  void forget_severed();

  std::vector<std::string> remove();  // detaches everywhere and removes the pins
  const std::map<unsigned, Descriptor>& links() const {
    return links_;
  }  // by interface; invalid for clsact

 private:
  GuardAttachment(const PinDirectory& pins, GuardAttach how, int program)
      : pins_(&pins), how_(how), program_(program) {}
  void adopt_links();
  Result<void> adopt_filters();
  Result<Descriptor> attach_one(const Interface& where, bool first);
  Result<Descriptor> attach_tcx(const Interface& where, bool first);
  Result<void> attach_clsact(const Interface& where);
  void detach_one(unsigned index);

  const PinDirectory* pins_;
  GuardAttach how_;
  int program_;
  std::uint32_t program_id_ = 0;
  std::uint32_t former_program_id_ =
      0;                // of the pinned program that an earlier keeper used; 0: none
  int last_errno_ = 0;  // of the last attach_one()
  std::map<unsigned, Descriptor> links_;
};

// Takes the guard off this network namespace without an object. Each line says what was removed.
std::vector<std::string> detach_pinned_guard(const std::string& pin_directory);

}  // namespace sluice::kernel
