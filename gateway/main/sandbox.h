// What a process that reads from the network gives up.
#pragma once

#include <expected>
#include <string>

namespace sluice::control {

// Keeps CAP_NET_RAW (IP_TRANSPARENT, SO_MARK) if it is there, drops every other capability for
// good, forbids new privileges and core dumps (they would hold secrets). Before any other thread is
// started: capabilities are per thread.
std::expected<void, std::string> enter_gateway_sandbox();

// What the keeper needs and this process lacks ("CAP_NET_ADMIN, CAP_BPF"); empty: nothing.
std::string missing_keeper_capabilities();

// No core dumps, no ptrace by the same user.
void forbid_core_dumps();

}  // namespace sluice::control
