// Where the program of `steering: tc` hangs (steer_take.bpf.h): TC ingress of the interfaces that
// the plan names, behind the guard and before other people's programs, which would send packets
// past netfilter. tcx links are pinned and outlive the keeper, so that `on_exit` of what they take
// is kept; a kernel before 6.6 has a filter of clsact instead. Keeper's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernel/guard_clsact.h"
#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/pins.h"

namespace sluice::kernel {

class SteerTc {
 public:
  // Puts `program` into what an earlier keeper left hanging. `pins` and `program` outlive the
  // object. `tcx`: false as on a kernel before 6.6.
  SteerTc(const PinDirectory& pins, int program, bool tcx);

  // Hangs at what `patterns` name of the node's interfaces (names and globs; empty: all but lo),
  // and nowhere else. The error is the first one; the rest is done.
  Result<void> follow(const NodeView& node, const std::vector<std::string>& patterns);
  void leave();   // hangs nowhere
  void remove();  // the same, and the pins
  std::size_t attached() const { return attached_.size(); }

 private:
  void adopt_links();
  Result<void> attach(const std::string& name, unsigned index);
  Result<void> attach_filter(const std::string& name, unsigned index);
  bool hangs(unsigned index, const Descriptor& link) const;
  void detach(unsigned index, Descriptor& link) const;
  std::optional<ClsactPlace> own_filter(unsigned index) const;
  // Of a keeper of another ABI version, whose place ours takes.
  std::optional<ClsactPlace> another_versions_filter(unsigned index) const;

  const PinDirectory& pins_;
  int program_;
  bool tcx_;
  std::uint32_t id_ = 0;
  std::uint32_t former_id_ = 0;              // of an earlier keeper's program; 0: there was none
  std::map<unsigned, Descriptor> attached_;  // by interface; invalid: a filter
};

// Takes it off this network namespace without an object. Each line says what was removed.
std::vector<std::string> detach_pinned_steer_tc(const std::string& pin_directory);

}  // namespace sluice::kernel
