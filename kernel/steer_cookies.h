// Where the program hangs that brings the answers to SYN cookies of forwarded connections to their
// listener, and new connections are counted (steer_cookie.bpf.h): at TC ingress of every interface
// but lo, while an entry needs it, before other people's programs, which may send packets
// elsewhere. Its links are not pinned: without a keeper nobody serves what it brings. The program
// is, so that it is known from others'.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/pins.h"

namespace sluice::kernel {

class SteerCookies {
 public:
  // `pins`, where the guard's links are, outlive the object.
  explicit SteerCookies(const PinDirectory& pins) : pins_(pins) {}
  // Attaches and detaches to what the node has now. A kernel before 6.6 has no tcx: there, and
  // where it refuses, error() says so.
  void follow(const NodeView& node, int program, bool wanted);
  std::size_t attached() const { return links_.size(); }
  const std::string& error() const { return error_; }

 private:
  void keep_pinned(int program) const;

  const PinDirectory& pins_;
  std::map<unsigned, Descriptor> links_;  // by interface
  std::string error_;
};

}  // namespace sluice::kernel
