// Tells systemd how it goes (sd_notify(3)): one datagram to $NOTIFY_SOCKET. Does nothing where
// there is none.
#pragma once

#include <string>
#include <string_view>

namespace sluice::control {

// "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=…"; several lines are fine. RELOADING gets its
// MONOTONIC_USEC.
void tell_service_manager(std::string_view state);

}  // namespace sluice::control
