// What a process that reads from the network gives up.
#pragma once

#include <expected>
#include <string>
#include <sys/types.h>

namespace sluice::control {

// Becomes `user` (a name or a number; empty: stays who it is), keeps CAP_NET_RAW (IP_TRANSPARENT,
// SO_MARK) if it is there, drops every other capability for good, forbids new privileges, core
// dumps (they would hold secrets) and all system calls but those of seccomp.cc. Before any other
// thread is started: capabilities are per thread.
std::expected<void, std::string> enter_gateway_sandbox(const std::string& user);

// The group that enter_gateway_sandbox() gives to `user`; of a number that names nobody, the
// number.
std::expected<gid_t, std::string> group_of(const std::string& user);

// A user who exists, by name or number; else an error that says so.
std::expected<void, std::string> check_user(const std::string& user);

// What the keeper needs and this process lacks ("CAP_NET_ADMIN, CAP_BPF"); empty: nothing.
std::string missing_keeper_capabilities();

// Drops what the keeper does not need once it is up. What another program needs to start (execve(2)
// by root) stays in the bounding set.
std::expected<void, std::string> drop_spare_capabilities();

// Drops every capability for good, and forbids new privileges and core dumps. As above, before any
// other thread is started.
std::expected<void, std::string> drop_all_privileges();

// No core dumps, no ptrace by the same user.
void forbid_core_dumps();

}  // namespace sluice::control
