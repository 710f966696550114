// The system calls that the gateway process may make; everything else is refused with EPERM, and
// said. See seccomp.cc for the list, which is where a feature that needs another one adds it.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

namespace sluice::control {

// For this thread and those that it will start, for good (seccomp(2)). Before the first of them. A
// refused call is logged once per call's name, and counted. A build with a sanitizer may fork and
// debug itself too, which its search for leaks does.
std::expected<void, std::string> restrict_system_calls();

// So far, over all threads.
std::uint64_t refused_system_calls();

}  // namespace sluice::control
