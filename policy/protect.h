// Whom `protect.from` keeps limits off, beyond what the kernel does by itself. Pure.
#pragma once

#include "policy/config/protect.h"
#include "policy/request.h"

namespace sluice::policy {

// Entries that name ports or interfaces are about packets; who is claimed by a proxy has not shaken
// hands.
bool is_protected(const Protect& protect, const RequestView& request) noexcept;

}  // namespace sluice::policy
