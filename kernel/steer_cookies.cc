#include "kernel/steer_cookies.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "kernel/guard_attach.h"
#include "kernel/guard_tcx.h"

namespace sluice::kernel {
namespace {

constexpr const char* kProgramPin = "steer_cookie_program";

}  // namespace

// Again, too: a successor that did not come to serve may have pinned its own.
void SteerCookies::keep_pinned(int program) const {
  const Descriptor pinned = pins_.get(kProgramPin);
  if (pinned && program_id(pinned.get()) == program_id(program)) return;
  static_cast<void>(pins_.pin(program, kProgramPin));  // at the worst taken for somebody else's
}

void SteerCookies::follow(const NodeView& node, int program, bool wanted) {
  if (!wanted) {
    links_.clear();
    pins_.remove(kProgramPin);
    error_.clear();
    return;
  }
  // An index is used again once its interface has gone, and the link with it.
  std::erase_if(links_, [&](const auto& entry) {
    const bool there = std::ranges::any_of(
        node.interfaces, [&](const auto& one) { return one.second == entry.first; });
    return !there || tcx_interface(entry.second.get()) != entry.first;
  });
  error_.clear();
  for (const auto& [name, index] : node.interfaces) {
    if (name == "lo" || links_.contains(index)) continue;
    auto link = attach_tcx_behind(program, {.index = index, .name = name, .up = true},
                                  pins_.get(guard_link_pin(index)), "the counter of connections");
    if (link) {
      links_.emplace(index, std::move(*link));
    } else if (link.error().code != ENODEV) {
      error_ = name + ": " +
               std::string(link.error().code == EINVAL ? "this kernel has no tcx (Linux 6.6)"
                                                       : link.error().error.message);
    }
  }
  if (!links_.empty()) keep_pinned(program);
}

}  // namespace sluice::kernel
