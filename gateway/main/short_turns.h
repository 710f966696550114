// How a thread that compiles policies shares its processor with those that serve requests.
#pragma once

namespace sluice::control {

// The calling thread, not those that it starts, asks for turns of 0.1 ms in place of the machine's
// (1.4 ms and more): who wakes to serve a request waits that long for it at most, and its own share
// of time is as before (EEVDF, sched_setattr(2)). Linux before 6.12 ignores it, and a failure
// changes nothing.
void take_short_turns() noexcept;

}  // namespace sluice::control
