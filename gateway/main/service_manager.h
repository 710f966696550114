// Tells systemd how it goes (sd_notify(3)): one datagram to $NOTIFY_SOCKET. Does nothing where
// there is none.
#pragma once

#include <string>
#include <string_view>

namespace sluice::control {

// "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=…"; several lines are fine. RELOADING gets its
// MONOTONIC_USEC. Waits while the manager's queue is full, but for "WATCHDOG=1", which that queue
// then has anyway.
void tell_service_manager(std::string_view state);

}  // namespace sluice::control
